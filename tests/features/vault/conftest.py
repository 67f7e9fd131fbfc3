"""Tenants with nothing in them, and an installation full of secrets."""

from dataclasses import dataclass
from uuid import UUID

import pytest

from crossdock.bootstrap import Services, encryption_keys
from crossdock.db.engine import Database
from crossdock.features.deliveries.schemas import SubscriptionIn
from crossdock.features.inbound.doors import DoorTable
from crossdock.features.inbound.schemas import EndpointIn
from crossdock.features.inbound.secret_box import SecretBox
from crossdock.kit.crypto import KeyRing
from crossdock.kit.ids import IdKind, new_uuid, parse_id
from tests.hub import ACTOR, new_tenant, query


async def add_tenant(database: Database, slug: str) -> UUID:
    tenant_id = new_uuid()
    await query(database.dsn, "INSERT INTO tenants (tenant_id, slug, name) VALUES ($1, $2, $2)", tenant_id, slug)
    return tenant_id


@pytest.fixture
async def acme(database: Database) -> UUID:
    return await add_tenant(database, "acme")


@pytest.fixture
async def globex(database: Database) -> UUID:
    return await add_tenant(database, "globex")


@dataclass(frozen=True, slots=True)
class Secrets:
    """What was typed into an installation, by tenant."""

    services: Services
    subscriptions: dict[UUID, tuple[UUID, str]]
    endpoints: dict[UUID, str]

    async def assert_all_open(self, services: Services | None = None) -> None:
        """Every secret is what was typed, as it is used to send and to receive."""
        used = services or self.services
        destinations = await used.loader.load(
            list(self.subscriptions), [subscription_id for subscription_id, _ in self.subscriptions.values()]
        )
        assert len(destinations) == len(self.subscriptions)
        doors = DoorTable(database=used.database, secret_box=SecretBox(vault=used.vault), clock=used.clock)
        for tenant_id, (subscription_id, password) in self.subscriptions.items():
            destination = destinations[subscription_id]
            assert destination.auth.password.get_secret_value() == password  # type: ignore[union-attr]
            assert len(destination.keys) == 1
            (slug,) = await query(used.database.dsn, "SELECT slug FROM tenants WHERE tenant_id = $1", tenant_id)
            _, door = await doors.find(slug["slug"], "in")
            assert door is not None
            assert [secret for secret, _ in door.secrets] == [self.endpoints[tenant_id]]

    async def as_before_the_vault(self) -> None:
        """Seal everything as was done before there were data keys."""
        settings = self.services.settings
        ring = KeyRing(encryption_keys(settings))
        dsn, vault = self.services.database.dsn, self.services.vault
        for table, column, use in (
            ("subscriptions", "auth", "subscription-auth"),
            ("subscription_keys", "secret", "subscription-key"),
            ("webhook_endpoint_secrets", "secret", "endpoint-secret"),
        ):
            for tenant_id, row_id, sealed in await query(dsn, f"SELECT tenant_id, id, {column} FROM {table}"):
                secret = await vault.open(sealed, tenant_id=tenant_id, purpose=f"{use}:{row_id.hex}")
                old = ring.seal(secret.encode(), tenant_id=tenant_id, purpose=use, key_id=ring.key_ids[0])
                await query(dsn, f"UPDATE {table} SET {column} = $1 WHERE id = $2", old, row_id)
        await query(dsn, "DELETE FROM data_keys")
        await query(dsn, "DELETE FROM vault_ring")


@pytest.fixture
async def secrets(services: Services) -> Secrets:
    """Three tenants, each with a subscription with a password and an endpoint: nine secrets."""
    subscriptions, endpoints = {}, {}
    for number in range(3):
        tenant_id = await new_tenant(services, f"tenant-{number}")
        password = f"password-{number}"
        made = await services.subscriptions.create(
            tenant_id,
            ACTOR,
            SubscriptionIn.model_validate(
                {
                    "name": "s",
                    "url": "https://example.com/",
                    "event_types": ["*"],
                    "auth": {"kind": "basic", "username": "us", "password": password},
                    "verify": False,
                }
            ),
        )
        subscriptions[tenant_id] = (parse_id(IdKind.SUBSCRIPTION, made.id), password)
        endpoint = EndpointIn.model_validate({"name": "e", "path": "in", "preset": "github"})
        opened = await services.inbound.endpoints.create(tenant_id, ACTOR, endpoint)
        assert opened.secret is not None
        endpoints[tenant_id] = opened.secret
    return Secrets(services, subscriptions, endpoints)
