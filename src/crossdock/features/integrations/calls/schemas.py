"""Calls as the API shows them."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from crossdock.features.integrations.calls.models import CallEntry
from crossdock.gateway.classification import Outcome
from crossdock.kit.ids import IdKind, format_id


class CallOut(BaseModel):
    """One attempt at a call to a provider, as lists show it."""

    id: str
    integration_id: str
    direction: Literal["outbound"]
    method: str
    url: str
    path: str
    status_code: int | None = Field(description="None when no answer came.")
    outcome: Outcome
    error_code: str | None
    error: str | None
    started_at: datetime
    duration_ms: float = Field(description="Until the answer was whole, waits for the rate limit included.")
    attempt: int
    retry_of: str | None = Field(description="The call's first attempt, if this is a later one.")
    stale: bool = Field(description="The caller got the last good answer instead.")
    correlation_id: str
    request_bytes: int
    response_bytes: int

    @classmethod
    def of(cls, call: CallEntry) -> "CallOut":
        """From the stored row."""
        return cls(
            id=format_id(IdKind.CALL, call.id),
            integration_id=format_id(IdKind.INTEGRATION, call.integration_id),
            direction="outbound",
            method=call.method,
            url=call.url,
            path=call.path,
            status_code=call.status_code,
            outcome=Outcome(call.outcome),
            error_code=call.error_code,
            error=call.error,
            started_at=call.started_at,
            duration_ms=round(call.duration_ms, 3),
            attempt=call.attempt,
            retry_of=None if call.retry_of is None else format_id(IdKind.CALL, call.retry_of),
            stale=call.stale,
            correlation_id=call.correlation_id,
            request_bytes=call.request_bytes,
            response_bytes=call.response_bytes,
        )


class CallDetail(CallOut):
    """One attempt with what was sent and what came back; secrets and personal data masked, long bodies cut.

    `retries` are the attempts that followed, when this is the first.
    """

    request_headers: list[tuple[str, str]]
    request_body: str | None
    response_headers: list[tuple[str, str]]
    response_body: str | None
    remote_address: str | None
    retries: list[CallOut] = Field(default_factory=list)

    @classmethod
    def whole(cls, call: CallEntry, later: list[CallEntry]) -> "CallDetail":
        """From the stored rows."""
        return cls(
            **CallOut.of(call).model_dump(),
            request_headers=call.request_headers,
            request_body=call.request_body,
            response_headers=call.response_headers,
            response_body=call.response_body,
            remote_address=call.remote_address,
            retries=[CallOut.of(one) for one in later],
        )
