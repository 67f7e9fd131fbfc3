"""Clients whose waits pass at once, and what they tell."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.streaming import StreamingTransport
from crossdock.kit.clock import FixedClock
from tests.gateway.client.provider import Log, Maker


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


@pytest.fixture
def client_of(streams: StreamingTransport, clock: FixedClock, log: Log, waits: list[float]) -> Maker:
    return Maker(streams, clock, log, waits)
