"""What each sender wants to hear when its webhook was taken in."""

from starlette.responses import Response

# Twilio acts on what it is answered, and takes anything but TwiML for a failure.
_TWIML = b"<Response/>"


def accepted(preset: str, status: str) -> Response:
    """The answer to a webhook that is stored, or was before; `status` is `received`, `held` or `duplicate`."""
    if preset == "twilio":
        return Response(_TWIML, media_type="text/xml")
    return Response(b'{"status":"%b"}' % status.encode(), media_type="application/json")
