"""Errors of inbound webhooks.

CrossdockError
├── InvalidInputError
│   └── InvalidEndpointError      422
├── NotFoundError
│   ├── EndpointNotFoundError     404
│   ├── ReceiptNotFoundError      404
│   ├── FileNotInBodyError        404
│   └── NoDoorError               404  a webhook called a path that no endpoint of the tenant has
├── ConflictError
│   ├── PathTakenError            409
│   └── ReceiptNotDeadError       409
├── BodyTooSlowError              408
├── UnavailableError
│   ├── TooManyLargeBodiesError   503  as many are on their way in as memory is set aside for
│   ├── BrokenEndpointError       503  its stored settings cannot be used by this version
│   ├── EndpointPausedError       503  it is paused, and refuses meanwhile
│   ├── HandlerMissingError       503  its handler is not installed where receipts are processed
│   ├── HandlerFailedError        503
│   └── NotConfirmedError         503  the URL that a sender wants called did not answer with 2xx
└── UnprocessableReceiptError     422  no try can succeed as things stand
"""

from collections.abc import Mapping
from typing import ClassVar

from crossdock.kit.errors import ConflictError, CrossdockError, InvalidInputError, NotFoundError, UnavailableError


class InvalidEndpointError(InvalidInputError):
    """The endpoint's settings are not valid."""

    code = "invalid_endpoint"


class EndpointNotFoundError(NotFoundError):
    """There is no webhook endpoint with this id."""

    code = "endpoint_not_found"


class ReceiptNotFoundError(NotFoundError):
    """There is no receipt with this id, or it is older than the retention."""

    code = "receipt_not_found"


class NoDoorError(NotFoundError):
    """No webhook endpoint listens here."""

    code = "no_endpoint_here"


class FileNotInBodyError(NotFoundError):
    """The webhook brought no file of this number."""

    code = "file_not_found"


class BodyTooSlowError(CrossdockError):
    """The body came too slowly; send it again."""

    code = "body_too_slow"
    status = 408
    headers: ClassVar[Mapping[str, str]] = {"Connection": "close"}


class TooManyLargeBodiesError(UnavailableError):
    """Too many large bodies are coming in at once; nothing was stored. Send it again in a few seconds."""

    code = "too_many_large_bodies"
    headers: ClassVar[Mapping[str, str]] = {"Connection": "close"}

    def __init__(self) -> None:
        super().__init__(retry_after_s=5)


class PathTakenError(ConflictError):
    """Another endpoint has this path already; choose another one."""

    code = "path_taken"


class ReceiptNotDeadError(ConflictError):
    """Only a dead receipt can be tried again; the others are done, or will be tried anyway."""

    code = "receipt_not_dead"


class BrokenEndpointError(UnavailableError):
    """The endpoint cannot be used right now; whoever runs this hub finds the reason in its log."""

    code = "endpoint_broken"


class EndpointPausedError(UnavailableError):
    """The endpoint is paused, and takes nothing until it is resumed; send it again later."""

    code = "endpoint_paused"


class HandlerMissingError(UnavailableError):
    """The endpoint's handler is not installed here."""

    code = "handler_missing"


class HandlerFailedError(UnavailableError):
    """The endpoint's handler failed; the worker's log says more."""

    code = "handler_failed"


class NotConfirmedError(UnavailableError):
    """The sender's subscription could not be confirmed."""

    code = "not_confirmed"


class UnprocessableReceiptError(CrossdockError):
    """The receipt cannot be processed as things stand."""

    code = "unprocessable_receipt"
    status = 422
