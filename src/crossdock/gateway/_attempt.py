"""One attempt at a call: what it holds while it lasts, and what is told to whom when it ends."""

from opentelemetry.trace import SpanKind, Status, StatusCode

from crossdock.gateway.call_log import SEARCHED_BEYOND_BYTES, BodyStart, CallRecord, CallSink, LogPolicy
from crossdock.gateway.classification import Outcome, Verdict
from crossdock.gateway.credentials import Draft, Signer
from crossdock.gateway.errors import TransportError
from crossdock.gateway.limits import Permit
from crossdock.gateway.places import Places
from crossdock.gateway.shared_breaker import Admission
from crossdock.gateway.streaming import StreamedResponse
from crossdock.kit.clock import Clock
from crossdock.kit.errors import CrossdockError
from crossdock.observability import metrics
from crossdock.observability.tracing import TRACER

# Finding a metric by its label takes longer than counting.
_COUNTED = {outcome: metrics.CALLS.labels(outcome.value) for outcome in Outcome}


class Attempt:
    """Ends once, by `end`, whatever happens; what it holds until then, it gives back then."""

    __slots__ = (
        "_answered_at",
        "_clock",
        "_ended",
        "_places",
        "_policy",
        "_sent_at",
        "_sink",
        "_span",
        "_started",
        "admission",
        "permit",
        "record",
        "request_body",
        "response",
        "response_body",
        "signer",
    )

    def __init__(self, record: CallRecord, *, policy: LogPolicy, sink: CallSink, clock: Clock) -> None:
        self.record = record
        self.permit: Permit | None = None
        self.admission: Admission | None = None
        self.signer: Signer | None = None
        self.response: StreamedResponse | None = None
        bound = policy.max_body_bytes + SEARCHED_BEYOND_BYTES
        self.request_body = BodyStart(bound=bound if policy.request_bodies else 0)
        self.response_body = BodyStart(bound=bound if policy.response_bodies else 0)
        self._policy = policy
        self._sink = sink
        self._clock = clock
        self._places: Places | None = None
        self._started = clock.monotonic()
        self._sent_at: float | None = None
        self._answered_at: float | None = None
        self._ended = False
        self._span = TRACER.start_span(record.method, kind=SpanKind.CLIENT)

    def takes(self, places: Places) -> None:
        """It has one of these places."""
        self._places = places

    def sends(self, draft: Draft, signer: Signer) -> None:
        """It is about to go out like this."""
        self.signer, self._sent_at = signer, self._clock.monotonic()
        record = self.record
        record.secrets, record.request_headers = signer.secrets, draft.headers

    def answered(self, response: StreamedResponse) -> None:
        """The head of an answer is there."""
        self.response, self._answered_at = response, self._clock.monotonic()
        if self.permit is not None:
            self.permit.arrived()
        self.record.status, self.record.remote_address = response.status, response.remote_address

    def end(self, verdict: Verdict, error: CrossdockError | None = None, *, stale: bool = False) -> None:
        """It is over; `stale` says that the caller gets an earlier answer instead."""
        if self._ended:
            return
        self._ended = True
        if self.response is not None:
            self.response.close()
        duration_s = self._clock.monotonic() - self._started
        never_left = isinstance(error, TransportError) and not error.maybe_sent
        self._settle(verdict, arrived=self._sent_at is not None and not never_left)
        self._write_down(verdict, error, duration_s, stale=stale)
        self._end_span(verdict)
        _COUNTED[verdict.outcome].inc()
        metrics.CALL_S.observe(duration_s)

    def _settle(self, verdict: Verdict, *, arrived: bool) -> None:
        if self._places is not None:
            self._places.give_back()
        if self.permit is not None:
            (self.permit.arrived if arrived else self.permit.unused)()
        if self.admission is None:
            return
        # Neither our own waits nor how long an answer goes on say anything against the provider.
        began, answered = self._sent_at or self._started, self._answered_at or self._clock.monotonic()
        duration_s = answered - began
        if verdict.healthy is None:
            self.admission.abandoned()
        elif verdict.healthy:
            self.admission.succeeded(duration_s)
        else:
            self.admission.failed(duration_s)

    def _write_down(self, verdict: Verdict, error: CrossdockError | None, duration_s: float, *, stale: bool) -> None:
        record, policy = self.record, self._policy
        record.duration_ms = duration_s * 1000
        record.outcome, record.stale = verdict.outcome, stale
        if self.response is not None:
            record.response_headers = self.response.headers
        if error is not None:
            record.error_code, record.error = error.code, error.message
        record.request_bytes, record.response_bytes = self.request_body.total, self.response_body.total
        record.request_body = self.request_body.start() if policy.request_bodies else None
        record.response_body = self.response_body.start() if policy.response_bodies else None
        self._sink.add(record)

    def _end_span(self, verdict: Verdict) -> None:
        """As OpenTelemetry's conventions for HTTP clients have it; no URL, since it may hold secrets."""
        span, record = self._span, self.record
        if span.is_recording():
            span.set_attribute("http.request.method", record.method)
            span.set_attribute("server.address", record.url.partition("://")[2].partition("/")[0].rpartition("@")[2])
            span.set_attribute("http.request.resend_count", record.attempt - 1)
            span.set_attribute("crossdock.call.id", record.id.hex)
            span.set_attribute("crossdock.correlation_id", record.correlation_id)
            span.set_attribute("crossdock.outcome", verdict.outcome.value)
            if record.status is not None:
                span.set_attribute("http.response.status_code", record.status)
            if verdict.outcome is not Outcome.SUCCESS:
                span.set_attribute("error.type", record.error_code or str(record.status))
                span.set_status(Status(StatusCode.ERROR))
        span.end()
