"""An event on its way from a request through validation."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from crossdock.features.events.content import JSON
from crossdock.features.events.errors import InvalidEventError
from crossdock.kit.errors import Fault


@dataclass(slots=True)
class Draft:
    """One event of a request; `pointer` is where it stood in the body."""

    type: str
    payload: bytes
    pointer: str
    content_type: str = JSON
    version: int | None = None
    time: datetime | None = None
    source: str | None = None
    subject: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)


def check_utf8(body: bytes) -> None:
    """Raise InvalidEventError, which names the first byte at fault, unless the body is UTF-8."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise InvalidEventError(f"The body is not UTF-8 at byte {error.start}.", (Fault("", "not UTF-8"),)) from None


def fault_at(pointer: str, name: str, what: str) -> InvalidEventError:
    """The error that one member of the event at `pointer` is wrong; all of it for an empty name."""
    return InvalidEventError(what, (Fault(f"{pointer}/{name}" if name else pointer, what),))
