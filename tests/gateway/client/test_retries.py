"""What is tried again and what never."""

from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime

import pytest

from crossdock.gateway.classification import Classifier, Outcome
from crossdock.gateway.credentials import TokenCredentials, bearer
from crossdock.gateway.errors import (
    ConnectError,
    ConnectionLostError,
    SendTimeoutError,
    TokenFetchError,
)
from crossdock.gateway.oauth.token import Token
from crossdock.gateway.retries import RetryPolicy
from crossdock.kit.clock import FixedClock
from tests.gateway.client.provider import BUSY, GET, OK, POST, SOON_S, Log, Maker, Tokens, provider
from tests.gateway.destinations import Visit, destination, friendly


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


async def test_a_provider_may_mean_something_else_by_a_status(client_of: Maker, log: Log) -> None:
    async with provider("403 X\nRetry-After: 2", OK) as (there, _):
        client = client_of(there, classifier=Classifier({403: Outcome.RATE_LIMITED}))
        assert (await client.request(GET)).status == 200
    assert log.outcomes == [Outcome.RATE_LIMITED, Outcome.SUCCESS]
