"""What outside stores are reached through."""

from collections.abc import AsyncIterator

import pytest

from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.http_transport import HttpTransport
from crossdock.kit.clock import SystemClock
from crossdock.settings import Settings


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    made = HttpTransport(policy=AddressPolicy(allow_loopback=True), clock=SystemClock())
    yield made
    await made.aclose()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"allow_loopback": True})
