"""A hub that sends, and destinations."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from crossdock.bootstrap import Services
from crossdock.settings import Settings
from crossdock.worker.worker import Worker
from tests.hub import Hub, new_tenant, working
from tests.receivers import Receiver, receiving


@pytest.fixture
def more_settings() -> dict[str, Any]:
    """What `with_settings` asks for."""
    return {}


@pytest.fixture
def settings(database_url: str, tmp_path: Path, more_settings: dict[str, Any]) -> Settings:
    """Deliveries may go to this machine, and a dead worker's lanes are soon free."""
    chosen = {"allow_loopback": True, "lease_s": 1.5, "drain_timeout_s": 2} | more_settings
    return Settings(database_url=database_url, data_dir=tmp_path / "installation", **chosen)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A destination."""
    async with receiving() as made:
        yield made


@pytest.fixture
async def hub(services: Services) -> Hub:
    """The process under test, driven for a tenant."""
    return Hub(services, await new_tenant(services))


@pytest.fixture
async def worker(services: Services) -> AsyncIterator[Worker]:
    """The process's worker."""
    async with working(services) as made:
        yield made
