"""Requests for tests."""

from typing import Any

from crossdock.gateway.transport import OutboundRequest


def post(url: str, **settings: Any) -> OutboundRequest:
    """A POST of a small JSON body."""
    chosen: dict[str, Any] = {
        "method": "POST",
        "headers": (("Content-Type", "application/json"),),
        "body": b"{}",
        **settings,
    }
    return OutboundRequest(url=url, **chosen)
