"""The resilient way out to one provider (requirements G1 to G6), usable alone.

    async with GatewayClient(ClientSettings(base_url="https://api.example.com/v1")) as client:
        reply = await client.request(Call(method="GET", path="/orders"))

The order of things: idempotency key; then for each attempt rate limit, breaker, a place, credentials, sending,
classification; then retry, the last good answer, the log. `_run` and `_send` are that order.
"""

import asyncio
import functools
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Self
from uuid import UUID

from crossdock.gateway._attempt import Attempt
from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.call_log import NO_LOG, CallRecord, CallSink, LogPolicy
from crossdock.gateway.calls import IDEMPOTENT_METHODS, Call, Reply, verify_content
from crossdock.gateway.classification import Classifier, Outcome, Verdict, of_error
from crossdock.gateway.credentials import NO_CREDENTIALS, Credentials, Draft, Signer, with_headers
from crossdock.gateway.errors import RequestError, TokenFetchError, TransportError
from crossdock.gateway.headers import HeaderPairs, retry_after
from crossdock.gateway.limits import Limiter
from crossdock.gateway.places import Places
from crossdock.gateway.replies import StaleReply, StreamedReply
from crossdock.gateway.retries import RetryPolicy
from crossdock.gateway.shared_breaker import CallBreaker
from crossdock.gateway.stale import KeptAnswer, StaleAnswers, question_key
from crossdock.gateway.streaming import StreamedResponse, StreamingTransport, StreamRequest
from crossdock.gateway.targets import url_below
from crossdock.kit.clock import Clock, SystemClock
from crossdock.kit.errors import CrossdockError, RateLimitedError, UnavailableError
from crossdock.kit.ids import new_uuid

# What a retry may wait for the body of the answer that made it necessary; it is kept for the log.
_DISCARD_WITHIN_S = 1.0
_SHORTEST_S = 0.001
_CACHED_METHODS = frozenset({"GET"})
# Nothing was sent, and saying more is not the provider's affair.
_HELD_BACK = of_error(RequestError())


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """How one integration's provider is called.

    `base_url` is fixed, or made of what the token's issuer told. `partition` keeps its connections and last good
    answers apart from others'. `headers` go with every call that does not set them itself. Of time, `deadline_s`
    is for a call with all its attempts and waits, `total_timeout_s` for one attempt, `read_timeout_s` for each
    step of it. An answer that is read while it comes may take `stream_timeout_s`, and so may a request that is sent
    so. `idempotency_header` is where the provider takes a key. A last good answer may be `max_stale_s` old.
    """

    base_url: str | Callable[[Mapping[str, str]], str]
    partition: str = ""
    headers: HeaderPairs = ()
    connect_timeout_s: float = 10
    read_timeout_s: float = 30
    total_timeout_s: float = 60
    stream_timeout_s: float = 600
    deadline_s: float = 120
    max_stale_s: float = 24 * 3600.0
    max_reply_bytes: int = 16 * 1024 * 1024
    max_streamed_bytes: int = 1024 * 1024 * 1024
    calls_at_once: int = 50
    idempotency_header: str | None = None
    verify_replies: bool = True
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    classifier: Classifier = field(default_factory=Classifier)
    log: LogPolicy = field(default_factory=LogPolicy)


class GatewayClient:
    """Calls one provider. Without a transport it has one of its own, closed on leaving; what is not given is not done.

    A call ends in a reply, whatever its status, or raises TransportError, TokenFetchError, LimitReachedError,
    BreakerOpenError or TooManyCallsError.
    """

    def __init__(
        self,
        settings: ClientSettings,
        *,
        transport: StreamingTransport | None = None,
        credentials: Credentials = NO_CREDENTIALS,
        limiter: Limiter | None = None,
        breaker: CallBreaker | None = None,
        stale: StaleAnswers | None = None,
        sink: CallSink = NO_LOG,
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings
        self._owns_transport = transport is None
        self._transport = transport or StreamingTransport(policy=AddressPolicy())
        self._credentials = credentials
        self._limiter = limiter
        self._breaker = breaker
        self._stale = stale
        self._sink = sink
        self._clock = clock or SystemClock()
        self._places = Places(settings.calls_at_once)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close what is its own."""
        if self._owns_transport:
            await self._transport.aclose()

    async def request(self, call: Call) -> Reply:
        """The provider's answer, whole; raises ReplyFormatError too, for one that is not what it says."""
        reply = await self._run(call, whole=True)
        assert isinstance(reply, Reply)  # noqa: S101 # as `_run` says
        return reply

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[StreamedReply | StaleReply]:
        """The provider's answer from its head on; its body is read while it comes."""
        reply = await self.open(call)
        try:
            yield reply
        finally:
            reply.close()

    async def open(self, call: Call) -> StreamedReply | StaleReply:
        """As `stream`; the caller closes the reply."""
        reply = await self._run(call, whole=False)
        return StaleReply(reply) if isinstance(reply, Reply) else reply

    async def _run(self, call: Call, *, whole: bool) -> Reply | StreamedReply:
        """Attempts until one counts; a `Reply` if `whole`, or if it is an earlier one."""
        course = self._course(call)
        while True:
            attempt = self._begin(course)
            try:
                response = await self._send(course, attempt, whole=whole)
                verdict = self._settings.classifier.of_status(response.status)
                wait_s = self._wait_before_next(course, attempt, verdict)
                if wait_s is None and not (_is_failure(verdict) and self._has_stale(course)):
                    if not whole:
                        return self._streamed(course, attempt, verdict)
                    return await self._whole(course, attempt, response, verdict)
                await _discard(attempt, response)
                attempt.end(verdict, stale=wait_s is None)
            except (TransportError, TokenFetchError) as error:
                verdict = of_error(error)
                wait_s = self._wait_before_next(course, attempt, verdict, error)
                attempt.end(verdict, error, stale=wait_s is None and self._has_stale(course))
                if wait_s is None and not self._has_stale(course):
                    raise
            except (RateLimitedError, UnavailableError) as error:
                wait_s = None
                attempt.end(_HELD_BACK, error, stale=self._has_stale(course))
                if not self._has_stale(course):
                    raise
            except BaseException:
                attempt.end(_HELD_BACK)
                raise
            if wait_s is None:
                return self._last_good(course, attempt)
            await self._settings.retry.sleep(wait_s)

    async def _send(self, course: "_Course", attempt: Attempt, *, whole: bool) -> StreamedResponse:
        """One attempt up to the head of its answer."""
        call, settings = course.call, self._settings
        if self._limiter is not None:
            attempt.permit = await self._limiter.acquire(priority=call.priority, deadline=course.deadline)
        if self._breaker is not None:
            attempt.admission = await self._breaker.admit()
        await self._places.take(wait_s=course.left_s(self._clock))
        attempt.takes(self._places)
        signer = await self._credentials.ready()
        draft = self._draft(course, attempt, signer)
        attempt.sends(draft, signer)
        response = await self._transport.open(
            StreamRequest(
                method=draft.method,
                url=draft.url,
                headers=draft.headers,
                body=draft.body,
                source=call.source if call.source is None else _counted(call.source, attempt),
                source_bytes=call.source_bytes,
                connect_timeout_s=settings.connect_timeout_s,
                read_timeout_s=settings.read_timeout_s,
                total_timeout_s=self._timeout_s(course),
                body_timeout_s=None if whole else settings.stream_timeout_s,
                max_response_bytes=settings.max_reply_bytes if whole else settings.max_streamed_bytes,
                tls=signer.tls,
                repeatable=course.repeatable,
                partition=settings.partition,
            )
        )
        attempt.answered(response)
        if self._limiter is not None:
            self._limiter.learned(response.headers, response.status)
        return response

    def _timeout_s(self, course: "_Course") -> float:
        """How long an attempt may take, until its answer is whole or begins to be read."""
        if course.call.source is not None:
            return self._settings.stream_timeout_s
        return max(_SHORTEST_S, min(self._settings.total_timeout_s, course.left_s(self._clock)))

    def _draft(self, course: "_Course", attempt: Attempt, signer: Signer) -> Draft:
        base_url = self._settings.base_url
        url = course.url or url_below(
            base_url if isinstance(base_url, str) else base_url(signer.values), course.call.path, course.call.query
        )
        attempt.record.url = url
        draft = Draft(method=course.call.method, url=url, headers=course.headers, body=course.call.body)
        if self._credentials.needs_body and course.call.source is not None:
            raise RequestError("The credentials sign the whole body, so it cannot be sent while it comes.")
        signer.sign(draft)
        return draft

    async def _whole(self, course: "_Course", attempt: Attempt, response: StreamedResponse, verdict: Verdict) -> Reply:
        """The answer that counts, with its body."""
        body = await response.read()
        attempt.response_body.add(body)
        reply = Reply(
            id=attempt.record.id,
            status=response.status,
            headers=response.headers,
            body=body,
            attempts=course.attempts,
        )
        if reply.ok and self._settings.verify_replies:
            most = self._settings.max_reply_bytes
            verify_content(reply.header("Content-Type"), reply.header("Content-Encoding"), body, max_bytes=most)
        if self._stale is not None and course.stale_key is not None and reply.status == HTTPStatus.OK:
            self._stale.put(course.stale_key, reply.headers, body)
        attempt.end(verdict)
        return reply

    def _streamed(self, course: "_Course", attempt: Attempt, verdict: Verdict) -> StreamedReply:
        """The answer that counts, whose body the caller reads."""
        stale, key = self._stale, course.stale_key
        if stale is None or key is None:
            return StreamedReply(attempt, verdict, keep=None, most_kept=0)
        keep = functools.partial(stale.put, key)
        return StreamedReply(attempt, verdict, keep=keep, most_kept=stale.max_answer_bytes)

    def _wait_before_next(
        self, course: "_Course", attempt: Attempt, verdict: Verdict, error: CrossdockError | None = None
    ) -> float | None:
        """Seconds until the call is tried again; None when it is not."""
        sent_once = course.call.source is not None and (error is None or verdict.acted)
        if verdict.outcome is Outcome.UNAUTHORIZED:
            better = attempt.signer is not None and attempt.signer.refused()
            first, course.refreshed = not course.refreshed, True
            return 0.0 if better and first and not sent_once else None
        if sent_once:
            return None
        wait_s = self._settings.retry.wait_s(
            verdict,
            attempts=course.attempts,
            repeatable=course.repeatable,
            retry_after_s=self._retry_after_s(attempt, error),
        )
        return None if wait_s is None or wait_s >= course.left_s(self._clock) else wait_s

    def _retry_after_s(self, attempt: Attempt, error: CrossdockError | None) -> float | None:
        if isinstance(error, TokenFetchError):
            return error.retry_after_s
        if error is not None or attempt.response is None:
            return None
        value = attempt.response.header("Retry-After")
        return None if value is None else retry_after(value, self._clock.now())

    def _course(self, call: Call) -> "_Course":
        settings = self._settings
        headers = call.headers
        if settings.headers:
            headers = with_headers(settings.headers, headers)
        keyed, headers = self._with_key(call, headers)
        # Where the base URL depends on no token, a path that is refused is refused before anything is waited for.
        url = url_below(settings.base_url, call.path, call.query) if isinstance(settings.base_url, str) else ""
        repeatable = keyed or call.method in IDEMPOTENT_METHODS if call.repeatable is None else call.repeatable
        stale_key = None
        if self._stale is not None and call.reads_stale and call.method in _CACHED_METHODS and not call.body:
            asked = url or url_below("", call.path, call.query)
            stale_key = question_key(partition=settings.partition, method=call.method, url=asked, headers=headers)
        return _Course(
            call=call,
            url=url,
            headers=headers,
            repeatable=repeatable,
            stale_key=stale_key,
            deadline=self._clock.monotonic() + (call.deadline_s or settings.deadline_s),
        )

    def _with_key(self, call: Call, headers: HeaderPairs) -> tuple[bool, HeaderPairs]:
        """Whether the call has an idempotency key that the provider knows, and its headers with it."""
        name = self._settings.idempotency_header
        if name is None or (call.method in IDEMPOTENT_METHODS and call.idempotency_key is None):
            return False, headers
        if call.idempotency_key is None and any(key.lower() == name.lower() for key, _ in headers):
            return True, headers
        return True, with_headers(headers, ((name, call.idempotency_key or new_uuid().hex),))

    def _begin(self, course: "_Course") -> Attempt:
        course.attempts += 1
        record = CallRecord(
            id=new_uuid(),
            correlation_id=course.call.correlation_id,
            attempt=course.attempts,
            retry_of=course.first_id,
            started_at=self._clock.now(),
            method=course.call.method,
            url=course.url or course.call.path,
            request_headers=course.headers,
        )
        course.first_id = course.first_id or record.id
        attempt = Attempt(record, policy=self._settings.log, sink=self._sink, clock=self._clock)
        if course.call.body:
            attempt.request_body.add(course.call.body)
        return attempt

    def _has_stale(self, course: "_Course") -> bool:
        return self._kept(course) is not None

    def _kept(self, course: "_Course") -> tuple[KeptAnswer, float] | None:
        if self._stale is None or course.stale_key is None:
            return None
        return self._stale.get(course.stale_key, max_age_s=self._settings.max_stale_s)

    def _last_good(self, course: "_Course", attempt: Attempt) -> Reply:
        found = self._kept(course)
        assert found is not None  # noqa: S101 # it was there a moment ago, and nothing was waited for
        answer, age_s = found
        return Reply(
            id=attempt.record.id,
            status=HTTPStatus.OK,
            headers=answer.headers,
            body=answer.body,
            attempts=course.attempts,
            stale=True,
            age_s=age_s,
        )


@dataclass(slots=True, kw_only=True)
class _Course:
    """A call on its way through its attempts."""

    call: Call
    url: str
    headers: HeaderPairs
    repeatable: bool
    stale_key: bytes | None
    deadline: float
    attempts: int = 0
    first_id: UUID | None = None
    refreshed: bool = False

    def left_s(self, clock: Clock) -> float:
        return self.deadline - clock.monotonic()


def _is_failure(verdict: Verdict) -> bool:
    """Whether an earlier answer is better than this one."""
    return verdict.healthy is False or verdict.passing


async def _counted(source: AsyncIterable[bytes], attempt: Attempt) -> AsyncIterator[bytes]:
    async for piece in source:
        attempt.request_body.add(piece)
        yield piece


async def _discard(attempt: Attempt, response: StreamedResponse) -> None:
    """Read what is left of an answer that does not count: for the log, and so that its connection can be kept."""
    try:
        async with asyncio.timeout(_DISCARD_WITHIN_S):
            async for piece in response:
                attempt.response_body.add(piece)
    except (TransportError, TimeoutError):
        return
