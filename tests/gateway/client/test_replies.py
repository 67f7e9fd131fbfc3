"""Answers that are too large, endless or not what they say, and those that stand in for them."""

import json
from dataclasses import replace

import pytest

from crossdock.gateway.breaker import BreakerPolicy
from crossdock.gateway.classification import Outcome
from crossdock.gateway.errors import (
    BreakerOpenError,
    ReplyFormatError,
    ReplyTooLargeError,
    SendTimeoutError,
)
from crossdock.gateway.shared_breaker import LocalBreaker
from crossdock.gateway.stale import StaleAnswers
from crossdock.kit.clock import FixedClock
from tests.gateway.client.provider import BUSY, GET, OK, POST, SOON_S, Log, Maker, provider
from tests.gateway.destinations import Visit, destination
from tests.waiting import eventually


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
