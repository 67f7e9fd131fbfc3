"""What each sender wants to hear when its webhook was taken in, or was not."""

from starlette.responses import Response

from crossdock.connectors.webhooks import Answer, Preset


def accepted(preset: Preset, outcome: str) -> Response:
    """The answer to a webhook that is stored, or was before; `outcome` is `received`, `held` or `duplicate`."""
    if preset.accepted is not None:
        return response_of(preset.accepted)
    return Response(b'{"status":"%b"}' % outcome.encode(), media_type="application/json")


def response_of(answer: Answer) -> Response:
    """An answer as the sender gets it; no browser shall take an echo of what came for a page."""
    return Response(
        answer.body,
        status_code=answer.status,
        media_type=answer.content_type,
        headers={"X-Content-Type-Options": "nosniff"},
    )
