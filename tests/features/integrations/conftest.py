"""A hub that knows the stand-ins' manifests, and a provider that they lead to."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from crossdock.bootstrap import Services
from crossdock.db.outbox import OutboxEntry
from crossdock.settings import Settings
from tests.accounts import Account
from tests.serving import Answer, ApiClient
from tests.stand_in import API_KEY, STAND_INS, StandIn, stand_in

INTEGRATIONS = "/api/v1/integrations"


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Providers may be on this machine, and the stand-ins are among them."""
    return Settings(
        database_url=database_url,
        data_dir=tmp_path / "installation",
        allow_loopback=True,
        provider_folders=(str(STAND_INS),),
    )


@pytest.fixture
async def provider() -> AsyncIterator[StandIn]:
    """What the stand-ins' manifests lead to."""
    async with stand_in() as running:
        yield running


@dataclass(slots=True)
class Desk:
    """A tenant at work with its integrations."""

    api: ApiClient
    provider: StandIn

    async def post(self, path: str = "", **body: Any) -> Answer:
        return await self.api.post(INTEGRATIONS + path, json=body)

    async def create(self, **changes: Any) -> dict[str, Any]:
        """One with a key in a header, active unless something else is asked for."""
        answer = await self.post(**self.wanted(**changes))
        assert answer.status == 201, answer.json
        found: dict[str, Any] = answer.json
        return found

    def wanted(self, **changes: Any) -> dict[str, Any]:
        """What `create` sends."""
        return {
            "name": "Customers",
            "provider": "key_header",
            "config": {"base_url": self.provider.url, "sandbox_url": self.provider.url, "region": "eu"},
            "credentials": {"api_key": API_KEY},
        } | changes

    def payments(self, kind: str = "basic_payments", **changes: Any) -> dict[str, Any]:
        """A payment gateway, of an exclusive category."""
        credentials = {
            "basic_payments": {"username": "account", "password": "good-password-0123456789"},
            "bearer_payments": {"token": "good-token-0123456789"},
        }[kind]
        config = {"base_url": self.provider.url}
        return {"name": kind, "provider": kind, "config": config, "credentials": credentials} | changes

    async def read(self, integration_id: str) -> dict[str, Any]:
        answer = await self.api.get(f"{INTEGRATIONS}/{integration_id}")
        assert answer.status == 200, answer.json
        found: dict[str, Any] = answer.json
        return found

    async def act(self, integration_id: str, what: str, **body: Any) -> Answer:
        return await self.api.post(f"{INTEGRATIONS}/{integration_id}/{what}", json=body)

    async def change(self, integration_id: str, **body: Any) -> Answer:
        return await self.api.patch(f"{INTEGRATIONS}/{integration_id}", json=body)


@pytest.fixture
def desk(api: ApiClient, provider: StandIn) -> Desk:
    """The tenant's."""
    return Desk(api, provider)


async def told(services: Services, tenant: Account) -> list[tuple[str, dict[str, Any]]]:
    """What waits in the outbox about integrations, in order: what happened, and the event's data."""
    async with services.database.tenant(tenant.tenant_id) as session:
        rows = await session.scalars(select(OutboxEntry).order_by(OutboxEntry.id))
        return [(row.type.partition(".")[2], row.data) for row in rows if row.type.startswith("integration.")]
