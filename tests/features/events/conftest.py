"""A hub that takes events in."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from crossdock.bootstrap import Services
from crossdock.settings import Settings
from tests.accounts import Account
from tests.hub import Hub
from tests.receivers import Receiver, receiving


@pytest.fixture
def more_settings() -> dict[str, Any]:
    """What `with_settings` asks for."""
    return {}


@pytest.fixture
def settings(database_url: str, tmp_path: Path, more_settings: dict[str, Any]) -> Settings:
    """Deliveries may go to this machine."""
    chosen = {"allow_loopback": True} | more_settings
    return Settings(database_url=database_url, data_dir=tmp_path / "installation", **chosen)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A destination."""
    async with receiving() as made:
        yield made


@pytest.fixture
def hub(services: Services, tenant: Account) -> Hub:
    """The process under test, driven for the tenant whose key `api` has."""
    return Hub(services, tenant.tenant_id)
