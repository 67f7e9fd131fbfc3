"""Calls: what is sent, what comes back, and what the log has of both."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from crossdock.gateway.call_log import LogPolicy
from crossdock.gateway.calls import Call
from crossdock.gateway.classification import Outcome
from crossdock.gateway.client import ClientSettings, GatewayClient
from crossdock.gateway.credentials import TokenCredentials, bearer
from crossdock.gateway.errors import (
    PathRefusedError,
    RequestError,
)
from crossdock.gateway.sigv4 import AwsKeys, SigV4
from crossdock.kit.clock import FixedClock
from tests.gateway.client.provider import BUSY, GET, OK, POST, Log, Maker, Tokens, provider
from tests.gateway.destinations import Visit, destination
from tests.waiting import eventually


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


async def test_the_base_url_may_come_from_the_token(client_of: Maker) -> None:
    async with provider(OK) as (there, asked):
        client = client_of(
            there,
            credentials=TokenCredentials(Tokens("t")),
            base_url=lambda values: f"{there.url}/{values['host']}",
        )
        assert (await client.request(GET)).status == 200
    assert asked.requests[0].startswith(b"GET /eu/x ")


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
