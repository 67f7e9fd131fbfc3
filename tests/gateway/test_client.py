"""The client: what it tries again and what never, whom it asks first, and what it tells afterwards."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.breaker import BreakerPolicy
from crossdock.gateway.call_log import CallRecord, LogPolicy
from crossdock.gateway.calls import Call
from crossdock.gateway.classification import Classifier, Outcome
from crossdock.gateway.client import ClientSettings, GatewayClient
from crossdock.gateway.credentials import TokenCredentials, bearer
from crossdock.gateway.errors import (
    BreakerOpenError,
    ConnectError,
    ConnectionLostError,
    PathRefusedError,
    ReplyFormatError,
    ReplyTooLargeError,
    RequestError,
    SendTimeoutError,
    TokenFetchError,
    TooManyCallsError,
)
from crossdock.gateway.limits import Priority
from crossdock.gateway.oauth.token import Token
from crossdock.gateway.retries import RetryPolicy
from crossdock.gateway.shared_breaker import LocalBreaker
from crossdock.gateway.sigv4 import AwsKeys, SigV4
from crossdock.gateway.stale import StaleAnswers
from crossdock.gateway.streaming import StreamingTransport
from crossdock.kit.clock import FixedClock
from tests.gateway.destinations import Destination, Visit, destination, friendly
from tests.waiting import eventually

SOON_S = 1.0


class Log:
    """Keeps the records of calls."""

    def __init__(self) -> None:
        self.records: list[CallRecord] = []

    def add(self, record: CallRecord) -> None:
        self.records.append(record)

    @property
    def outcomes(self) -> list[Outcome]:
        return [record.outcome for record in self.records]


class Provider:
    """Says the answers of a list, one after the other, the last one again and again; remembers the requests."""

    def __init__(self, *answers: str | None, body: bytes = b"ok") -> None:
        self.answers = list(answers)
        self.body = body
        self.requests: list[bytes] = []

    async def __call__(self, visit: Visit) -> None:
        while request := await visit.request():
            self.requests.append(request)
            answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
            if answer is None:
                return  # hangs up
            status, _, headers = answer.partition("\n")
            await visit.answer(self.body, status=status, headers=headers + "\r\n" if headers else "")


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
async def streams() -> AsyncIterator[StreamingTransport]:
    made = StreamingTransport(policy=AddressPolicy(allow_loopback=True))
    yield made
    await made.aclose()


class Maker:
    """Makes clients whose waits are noted, and pass at once."""

    def __init__(self, transport: StreamingTransport, clock: FixedClock, log: Log, waits: list[float]) -> None:
        self.transport, self.clock, self.log, self.waits = transport, clock, log, waits

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.clock.advance(seconds)

    def __call__(self, there: Destination | str, *, attempts: int = 4, **given: Any) -> GatewayClient:
        own = {name: given.pop(name) for name in ("credentials", "limiter", "breaker", "stale") if name in given}
        retry = RetryPolicy(attempts=attempts, draw=lambda: 1.0, sleep=self.sleep)
        base_url = there if isinstance(there, str) else f"{there.url}/v1"
        settings = ClientSettings(**{"base_url": base_url, "retry": retry, **given})
        return GatewayClient(settings, transport=self.transport, sink=self.log, clock=self.clock, **own)


@pytest.fixture
def client_of(streams: StreamingTransport, clock: FixedClock, log: Log, waits: list[float]) -> Maker:
    return Maker(streams, clock, log, waits)


GET = Call(method="GET", path="/x")
POST = Call(method="POST", path="/x", body=b"{}")


@asynccontextmanager
async def provider(*answers: str | None, body: bytes = b"ok") -> AsyncIterator[tuple[Destination, Provider]]:
    made = Provider(*answers, body=body)
    async with destination(made) as there:
        yield there, made


OK, BUSY = "200 OK", "503 Service Unavailable"


async def test_a_reply_is_what_the_provider_said(client_of: Maker, log: Log) -> None:
    async with provider("201 Created\nX-A: b", body=b'{"a":1}') as (there, asked):
        reply = await client_of(there).request(replace(GET, query=(("q", "a b"),), headers=(("X-B", "c"),)))
    assert (reply.status, reply.ok, reply.header("x-a"), reply.json()) == (201, True, "b", {"a": 1})
    assert (reply.attempts, reply.stale, reply.id) == (1, False, log.records[0].id)
    assert asked.requests[0].startswith(b"GET /v1/x?q=a+b HTTP/1.1\r\n")
    assert b"X-B: c\r\n" in asked.requests[0]


async def test_it_works_alone_with_nothing_but_a_base_url() -> None:
    async with provider(OK) as (there, _), GatewayClient(ClientSettings(base_url=there.url)) as client:
        with pytest.raises(RequestError) as caught:
            await client.request(replace(GET, path="/../x"))
        assert isinstance(caught.value, PathRefusedError)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_what_may_pass_is_tried_again_after_growing_waits(
    client_of: Maker, waits: list[float], log: Log, status: int
) -> None:
    async with provider(f"{status} X", f"{status} X", OK) as (there, _):
        reply = await client_of(there).request(GET)
    assert (reply.status, reply.attempts, waits) == (200, 3, [0.5, 1.0])
    first = log.records[0].id
    assert [record.retry_of for record in log.records] == [None, first, first]
    assert [record.attempt for record in log.records] == [1, 2, 3]


async def test_waits_are_drawn_from_nothing_to_the_whole() -> None:
    verdict = Classifier().of_status(503)
    policy = RetryPolicy(attempts=99, base_s=1, cap_s=8, draw=lambda: 0.25)
    waits = [policy.wait_s(verdict, attempts=n, repeatable=True, retry_after_s=None) for n in (1, 2, 3, 4, 5, 98)]
    assert waits == [0.25, 0.5, 1.0, 2.0, 2.0, 2.0]
    assert policy.wait_s(verdict, attempts=99, repeatable=True, retry_after_s=None) is None


@pytest.mark.parametrize("status", [400, 404, 409, 410, 422, 425, 451, 501, 505])
async def test_what_will_not_pass_is_answered_at_once(client_of: Maker, status: int) -> None:
    async with provider(f"{status} X") as (there, asked):
        assert (await client_of(there).request(GET)).status == status
    assert len(asked.requests) == 1


async def test_after_the_last_attempt_the_answer_is_the_callers(client_of: Maker) -> None:
    async with provider(BUSY) as (there, asked):
        reply = await client_of(there, attempts=3).request(GET)
    assert (reply.status, reply.attempts, len(asked.requests)) == (503, 3, 3)


async def test_retry_after_is_waited_out_in_both_its_forms(
    client_of: Maker, clock: FixedClock, waits: list[float]
) -> None:
    date = format_datetime(clock.now() + timedelta(seconds=12.5 + 7), usegmt=True)
    async with provider("429 X\nRetry-After: 7", f"503 X\nRetry-After: {date}", OK) as (there, _):
        assert (await client_of(there).request(GET)).status == 200
    assert waits == [7.5, pytest.approx(12, abs=0.6)]


async def test_a_retry_after_beyond_the_deadline_is_not_waited_for(client_of: Maker, waits: list[float]) -> None:
    async with provider("429 X\nRetry-After: 3600") as (there, asked):
        reply = await client_of(there, deadline_s=60).request(GET)
    assert (reply.status, reply.header("retry-after"), waits, len(asked.requests)) == (429, "3600", [], 1)


@pytest.mark.parametrize("answer", [BUSY, "500 X", "502 X", "504 X", None])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_write_that_may_have_been_done_is_never_repeated(
    client_of: Maker, method: str, answer: str | None
) -> None:
    async with provider(answer, OK) as (there, asked):
        call = replace(POST, method=method)
        if answer is None:
            with pytest.raises(ConnectionLostError):
                await client_of(there).request(call)
        else:
            assert (await client_of(there).request(call)).status == int(answer[:3])
    assert len(asked.requests) == 1


async def test_a_write_that_times_out_is_not_repeated_and_a_read_is(client_of: Maker) -> None:
    got: list[bytes] = []

    async def behaviour(visit: Visit) -> None:
        got.append(await visit.request())
        await visit.gone()

    async with destination(behaviour) as there:
        client = client_of(there, read_timeout_s=SOON_S / 2, attempts=2)
        for call, times in ((POST, 1), (GET, 2)):
            got.clear()
            with pytest.raises(SendTimeoutError):
                await client.request(call)
            assert len(got) == times


async def test_a_write_that_was_turned_away_is_repeated(client_of: Maker) -> None:
    async with provider("429 X\nRetry-After: 1", OK) as (there, asked):
        assert (await client_of(there).request(POST)).status == 200
    assert len(asked.requests) == 2


async def test_a_write_that_did_not_leave_is_repeated(client_of: Maker, log: Log) -> None:
    async with destination(friendly) as there:
        port = there.port
    with pytest.raises(ConnectError):
        await client_of(f"http://127.0.0.1:{port}", attempts=3).request(POST)
    assert log.outcomes == [Outcome.UNREACHED] * 3


async def test_with_an_idempotency_key_a_write_is_repeated_under_the_same_key(client_of: Maker) -> None:
    async with provider(BUSY, None, OK) as (there, asked):
        client = client_of(there, idempotency_header="Idempotency-Key")
        assert (await client.request(POST)).status == 200
        assert (await client.request(POST)).status == 200
    keys = [
        line.split(b": ")[1] for request in asked.requests for line in request.split(b"\r\n") if b"Idempotency" in line
    ]
    assert len(keys) == 4
    assert len(set(keys[:3])) == 1
    assert keys[3] != keys[0]


async def test_the_callers_own_idempotency_key_is_kept(client_of: Maker) -> None:
    async with provider(BUSY, OK) as (there, asked):
        client = client_of(there, idempotency_header="Idempotency-Key")
        await client.request(replace(POST, headers=(("idempotency-key", "mine"),)))
        await client.request(replace(POST, idempotency_key="given"))
    assert [b"mine" in request for request in asked.requests] == [True, True, False]
    assert b"Idempotency-Key: given\r\n" in asked.requests[2]


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_write_that_is_idempotent_by_its_method_is_repeated(client_of: Maker, method: str) -> None:
    async with provider(BUSY, OK) as (there, _):
        assert (await client_of(there).request(replace(POST, method=method))).status == 200


async def test_a_caller_may_say_that_a_call_is_not_to_be_repeated_or_is(client_of: Maker) -> None:
    async with provider(BUSY, OK) as (there, _):
        assert (await client_of(there).request(replace(POST, method="PUT", repeatable=False))).status == 503
    async with provider(BUSY, OK) as (there, _):
        assert (await client_of(there).request(replace(POST, repeatable=True))).status == 200


class Tokens:
    """Gives out tokens one after the other, each again until it is refused."""

    def __init__(self, *tokens: str) -> None:
        self.left = list(tokens)

    async def token(self, *, force_newer_than: str | None = None) -> Token:
        if force_newer_than == self.left[0] and len(self.left) > 1:
            del self.left[0]
        return Token(value=self.left[0], values={"host": "eu"})


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_after_a_401_the_token_is_refreshed_and_the_call_tried_once_more(
    client_of: Maker, waits: list[float], method: str
) -> None:
    async with provider("401 X", OK) as (there, asked):
        credentials = TokenCredentials(Tokens("old", "new"))
        assert (await client_of(there, credentials=credentials).request(replace(POST, method=method))).status == 200
    assert [b"Bearer old" in request for request in asked.requests] == [True, False]
    assert b"Bearer new" in asked.requests[1]
    assert waits == [0.0]


async def test_a_second_401_is_the_callers(client_of: Maker) -> None:
    async with provider("401 X") as (there, asked):
        credentials = TokenCredentials(Tokens("old", "new", "newer"))
        assert (await client_of(there, credentials=credentials).request(GET)).status == 401
    assert len(asked.requests) == 2


async def test_a_401_to_what_cannot_be_refreshed_is_answered_at_once(client_of: Maker) -> None:
    async with provider("401 X") as (there, asked):
        assert (await client_of(there, credentials=bearer("t")).request(GET)).status == 401
    assert len(asked.requests) == 1


async def test_without_a_token_nothing_is_sent(client_of: Maker, log: Log) -> None:
    class NoTokens:
        async def token(self, *, force_newer_than: str | None = None) -> Token:
            raise TokenFetchError(retryable=force_newer_than is None and len(log.records) < 1, retry_after_s=3)

    async with provider(OK) as (there, asked):
        with pytest.raises(TokenFetchError):
            await client_of(there, credentials=TokenCredentials(NoTokens())).request(GET)
    assert (asked.requests, log.outcomes, client_of.waits) == ([], [Outcome.NOT_SENT, Outcome.REFUSED], [3.5])


async def test_the_base_url_may_come_from_the_token(client_of: Maker) -> None:
    async with provider(OK) as (there, asked):
        client = client_of(
            there,
            credentials=TokenCredentials(Tokens("t")),
            base_url=lambda values: f"{there.url}/{values['host']}",
        )
        assert (await client.request(GET)).status == 200
    assert asked.requests[0].startswith(b"GET /eu/x ")


async def test_a_403_is_told_to_the_log_as_such(client_of: Maker, log: Log) -> None:
    async with provider("403 Forbidden") as (there, asked):
        assert (await client_of(there).request(GET)).status == 403
    assert (log.outcomes, len(asked.requests)) == ([Outcome.FORBIDDEN], 1)


async def test_a_provider_may_mean_something_else_by_a_status(client_of: Maker, log: Log) -> None:
    async with provider("403 X\nRetry-After: 2", OK) as (there, _):
        client = client_of(there, classifier=Classifier({403: Outcome.RATE_LIMITED}))
        assert (await client.request(GET)).status == 200
    assert log.outcomes == [Outcome.RATE_LIMITED, Outcome.SUCCESS]


async def test_the_breaker_opens_for_failures_only_and_then_nothing_is_sent(
    client_of: Maker, clock: FixedClock
) -> None:
    breaker = LocalBreaker(BreakerPolicy(), clock=clock)
    async with provider("429 X", "404 X", "429 X", "400 X", "422 X", "429 X", BUSY) as (there, asked):
        client = client_of(there, breaker=breaker, attempts=1)
        for _ in range(6 + 5):
            await client.request(GET)
        with pytest.raises(BreakerOpenError):
            await client.request(GET)
        assert len(asked.requests) == 11
        asked.answers = [OK]
        clock.advance(60)
        for _ in range(3):
            assert (await client.request(GET)).status == 200


async def test_a_caller_who_leaves_leaves_the_probe_to_another(client_of: Maker, clock: FixedClock) -> None:
    breaker = LocalBreaker(BreakerPolicy(failures=1), clock=clock)
    async with provider(BUSY) as (there, _):
        await client_of(there, breaker=breaker, attempts=1).request(GET)
    clock.advance(60)

    async def hanging(visit: Visit) -> None:
        if b"/hang" in await visit.request():
            await visit.gone()
        await visit.answer()

    async with destination(hanging) as there:
        client = client_of(there, breaker=breaker)
        probe = asyncio.create_task(client.request(replace(GET, path="/hang")))
        await eventually(lambda: there.visits)
        with pytest.raises(BreakerOpenError):
            await client.request(GET)
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        assert (await client.request(GET)).status == 200


class Limit:
    """Notes what it is asked and told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    async def acquire(self, *, priority: Priority = Priority.NORMAL, deadline: float) -> "Limit":
        self.told.append((priority, deadline))
        return self

    def arrived(self) -> None:
        self.told.append("arrived")

    def unused(self) -> None:
        self.told.append("unused")

    def learned(self, headers: Sequence[tuple[str, str]], status: int) -> None:
        self.told.append((status, dict(headers).get("X-RateLimit-Remaining")))


async def test_each_attempt_asks_the_limiter_and_tells_it_what_came_back(client_of: Maker) -> None:
    limit = Limit()
    async with provider("429 X\nX-RateLimit-Remaining: 0", "200 OK\nX-RateLimit-Remaining: 9") as (there, _):
        client = client_of(there, limiter=limit, deadline_s=50)
        await client.request(replace(GET, priority=Priority.HIGH))
    told = [entry for index, entry in enumerate(limit.told) if entry != limit.told[index - 1]]
    assert told == [
        (Priority.HIGH, 50.0),
        "arrived",
        (429, "0"),
        "arrived",
        (Priority.HIGH, 50.0),
        "arrived",
        (200, "9"),
        "arrived",
    ]


async def test_a_permit_of_a_call_that_did_not_leave_is_given_back(client_of: Maker) -> None:
    limit = Limit()
    async with destination(friendly) as there:
        nobody = f"http://127.0.0.1:{there.port}"
    with pytest.raises(ConnectError):
        await client_of(nobody, limiter=limit, attempts=1).request(GET)
    assert limit.told[-1] == "unused"


async def test_a_slow_provider_fills_its_own_places_only(client_of: Maker) -> None:
    async def hanging(visit: Visit) -> None:
        await visit.request()
        await visit.gone()

    async with destination(hanging) as slow, destination(friendly) as there:
        client = client_of(slow, calls_at_once=2)
        tasks = [asyncio.create_task(client.request(GET)) for _ in range(5)]
        await eventually(lambda: slow.visits == 2)
        assert (await client_of(there).request(GET)).status == 200
        tasks.pop(0).cancel()
        await eventually(lambda: slow.visits == 3)  # its place is the next one's
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        waiting = asyncio.create_task(client.request(GET))
        await eventually(lambda: slow.visits == 4)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_who_finds_no_place_in_time_is_told_so(client_of: Maker, log: Log) -> None:
    async def hanging(visit: Visit) -> None:
        await visit.request()
        await visit.gone()

    async with destination(hanging) as there:
        client = client_of(there, calls_at_once=1)
        first = asyncio.create_task(client.request(GET))
        await eventually(lambda: there.visits == 1)
        with pytest.raises(TooManyCallsError):
            await client.request(replace(GET, deadline_s=0.01))
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    assert [record.error_code for record in log.records] == ["too_many_calls", None]


async def test_a_read_falls_back_to_the_last_good_answer(client_of: Maker, clock: FixedClock, log: Log) -> None:
    async with provider(OK, BUSY, body=b'{"a":1}') as (there, asked):
        client = client_of(
            there,
            stale=StaleAnswers(clock=clock),
            attempts=1,
            breaker=LocalBreaker(BreakerPolicy(failures=2), clock=clock),
        )
        assert not (await client.request(GET)).stale
        clock.advance(5)
        for _ in range(3):  # twice 503, then not asked any more
            reply = await client.request(GET)
            assert (reply.status, reply.json(), reply.stale, reply.age_s) == (200, {"a": 1}, True, 5)
        async with client.stream(GET) as streamed:
            assert (streamed.stale, await streamed.read()) == (True, b'{"a":1}')
        assert len(asked.requests) == 3
        with pytest.raises(BreakerOpenError):
            await client.request(replace(GET, path="/other"))
        with pytest.raises(BreakerOpenError):
            await client.request(replace(GET, reads_stale=False))
        with pytest.raises(BreakerOpenError):
            await client.request(POST)
    assert [record.stale for record in log.records] == [False, True, True, True, True, False, False, False]


async def test_a_rejected_read_has_no_stand_in(client_of: Maker, clock: FixedClock) -> None:
    async with provider(OK, "404 X") as (there, _):
        client = client_of(there, stale=StaleAnswers(clock=clock))
        await client.request(GET)
        assert (await client.request(GET)).status == 404


async def test_a_streamed_answer_becomes_the_last_good_one_when_it_was_read_whole(
    client_of: Maker, clock: FixedClock
) -> None:
    async with provider(OK, OK, BUSY, body=b"abc") as (there, _):
        client = client_of(there, stale=StaleAnswers(clock=clock), attempts=1)
        async with client.stream(replace(GET, path="/unread")):
            pass
        async with client.stream(GET) as reply:
            assert await reply.read() == b"abc"
        assert (await client.request(replace(GET, path="/unread"))).status == 503
        assert (await client.request(GET)).body == b"abc"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"<html>"),
        ("application/problem+json; charset=utf-8", b'{"a":'),
        ("application/json", b'{"a":1}\x1f'),
        ("text/xml", b'{"a":1}'),
    ],
)
async def test_a_reply_that_is_not_what_it_says_is_an_error(
    client_of: Maker, log: Log, content_type: str, body: bytes
) -> None:
    async with provider(f"200 OK\nContent-Type: {content_type}", body=body) as (there, asked):
        with pytest.raises(ReplyFormatError):
            await client_of(there).request(GET)
        assert (await client_of(there, verify_replies=False).request(GET)).body == body
    assert (log.outcomes[0], log.records[0].error_code, len(asked.requests)) == (Outcome.UNUSABLE, "reply_malformed", 2)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b""),
        ("application/json", json.dumps({"a": [1, None, "\u00e4"]}).encode("utf-16")),
        ("application/json", b"[NaN, 12345678901234567890123]"),
        ("application/xml", b"\xef\xbb\xbf <a/>"),
        ("text/html", b"{"),
    ],
)
async def test_a_reply_that_is_what_it_says_is_none(client_of: Maker, content_type: str, body: bytes) -> None:
    async with provider(f"200 OK\nContent-Type: {content_type}", body=body) as (there, _):
        assert (await client_of(there).request(GET)).body == body


async def test_a_reply_that_is_too_large_is_an_error_and_asked_for_once(client_of: Maker, log: Log) -> None:
    async with provider(OK, body=bytes(5000)) as (there, asked):
        with pytest.raises(ReplyTooLargeError):
            await client_of(there, max_reply_bytes=4000).request(GET)
    assert (log.outcomes, len(asked.requests)) == ([Outcome.UNUSABLE], 1)


async def test_an_endless_reply_ends_at_the_total_timeout(client_of: Maker) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await visit.drip(b"1\r\na\r\n")

    async with destination(behaviour) as there:
        with pytest.raises(SendTimeoutError):
            await client_of(there, total_timeout_s=SOON_S / 2, attempts=1).request(GET)
        await eventually(lambda: there.left == 1)


async def test_the_log_has_what_was_sent_and_what_came_back(client_of: Maker, log: Log, clock: FixedClock) -> None:
    async with provider("200 OK\nX-A: b", body=b"answer") as (there, _):
        client = client_of(there, credentials=bearer("secret-token"))
        await client.request(replace(POST, correlation_id="c1", headers=(("X-B", "c"),)))
    (record,) = log.records
    assert (record.method, record.url, record.correlation_id) == ("POST", f"{there.url}/v1/x", "c1")
    assert (record.request_body, record.request_bytes) == (b"{}", 2)
    assert (record.status, record.response_body, record.response_bytes) == (200, b"answer", 6)
    assert dict(record.response_headers)["X-A"] == "b"
    assert dict(record.request_headers)["X-B"] == "c"
    assert (record.secrets, record.started_at, record.remote_address) == (("secret-token",), clock.now(), "127.0.0.1")
    assert "secret-token" not in repr(record)


async def test_bodies_in_the_log_can_be_switched_off_and_are_bounded(client_of: Maker, log: Log) -> None:
    async with provider(OK, body=b"a" * 100_000) as (there, _):
        policy = LogPolicy(request_bodies=False, max_body_bytes=1000)
        await client_of(there, log=policy).request(POST)
        await client_of(there, log=LogPolicy(response_bodies=False)).request(POST)
    first, second = log.records
    assert (first.request_body, first.request_bytes) == (None, 2)
    assert (len(first.response_body or b""), first.response_bytes) == (1000 + 4096, 100_000)
    assert (second.request_body, second.response_body, second.response_bytes) == (b"{}", None, 100_000)


async def test_a_body_that_comes_piece_by_piece_is_sent_once(client_of: Maker, log: Log) -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"ab"
        yield b"cd"

    call = Call(method="PUT", path="/x", source=source(), source_bytes=4)
    async with provider(BUSY, OK) as (there, asked):
        assert (await client_of(there).request(call)).status == 503
    assert len(asked.requests) == 1
    assert (log.records[0].request_body, log.records[0].request_bytes) == (b"abcd", 4)


async def test_a_body_that_is_signed_cannot_come_piece_by_piece(client_of: Maker) -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"ab"

    keys = AwsKeys(access_key_id="a", secret_access_key="b")
    async with provider(OK) as (there, asked):
        client = client_of(there, credentials=SigV4(keys, service="ses", region="eu-west-1"))
        with pytest.raises(RequestError):
            await client.request(Call(method="PUT", path="/x", source=source()))
        assert (await client.request(POST)).status == 200
    assert b"AWS4-HMAC-SHA256" in asked.requests[0]


async def test_a_stream_that_breaks_off_counts_against_the_provider(
    client_of: Maker, log: Log, clock: FixedClock
) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")

    breaker = LocalBreaker(BreakerPolicy(failures=1), clock=clock)
    async with destination(behaviour) as there:
        client = client_of(there, breaker=breaker)
        async with client.stream(GET) as reply:
            with pytest.raises(ConnectionLostError):
                await reply.read()
        with pytest.raises(BreakerOpenError):
            await client.request(GET)
    assert (log.records[0].outcome, log.records[0].response_body) == (Outcome.INTERRUPTED, b"abc")


async def test_a_stream_that_the_caller_leaves_is_logged_and_frees_its_place(client_of: Maker, log: Log) -> None:
    async def behaviour(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await visit.flood(b"1e\r\n" + b"abc" * 10 + b"\r\n")

    async with destination(behaviour) as there:
        client = client_of(there, calls_at_once=1)
        for _ in range(2):
            async with client.stream(GET) as reply:
                assert (await reply.piece()).startswith(b"abc")
        await eventually(lambda: there.left == 2)
    assert log.outcomes == [Outcome.SUCCESS] * 2
