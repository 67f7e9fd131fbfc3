"""What the tests of integrations' tokens share."""

from collections.abc import AsyncIterator

import pytest

from crossdock.kit.crypto import new_key
from tests.authorization_server import AuthorizationServer, authorization_server
from tests.features.integrations.oauth.stage import Stage, stage
from tests.hub import MovableClock


@pytest.fixture
def keys() -> list[str]:
    """The encryption keys of the installation."""
    return [new_key()]


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def server() -> AsyncIterator[AuthorizationServer]:
    async with authorization_server() as made:
        yield made


@pytest.fixture
async def hub(database_url: str, keys: list[str], clock: MovableClock) -> AsyncIterator[Stage]:
    async with stage(database_url, keys=keys, clock=clock) as made:
        yield made


@pytest.fixture
async def other(database_url: str, keys: list[str], clock: MovableClock) -> AsyncIterator[Stage]:
    """A second process."""
    async with stage(database_url, keys=keys, clock=clock) as made:
        yield made
