"""Every asynchronous test here runs on asyncio's own loop and on uvloop: sockets behave differently on each."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.http_transport import HttpTransport


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    made = HttpTransport(policy=AddressPolicy(allow_loopback=True))
    yield made
    await made.aclose()
