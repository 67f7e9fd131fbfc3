"""What the tests of tenants, users and keys share."""

from datetime import UTC, datetime

import pytest

from crossdock.bootstrap import Services, operator_key
from crossdock.features.identity.api_keys.schemas import NewApiKey
from crossdock.features.identity.models import ApiKey
from crossdock.kit.clock import FixedClock
from crossdock.kit.permissions import ALL_PERMISSIONS, Permission
from crossdock.settings import Settings
from tests.accounts import OPERATOR, Account
from tests.serving import ApiClient

HOUR_S = 3600


@pytest.fixture
def clock() -> FixedClock:
    """Time stands still, at the beginning of an hour of today."""
    return FixedClock(datetime.now(UTC).replace(minute=0, second=0, microsecond=0))


class KeyMaker:
    """Makes keys of one tenant without counting against their limits."""

    def __init__(self, services: Services, tenant: Account) -> None:
        self._services = services
        self._tenant = tenant

    async def __call__(self, *, rate: int = 1000, expires_at: datetime | None = None) -> tuple[ApiKey, str]:
        """A key and its text."""
        async with self._services.database.tenant(self._tenant.tenant_id) as session:
            return await self._services.identity.api_keys.create(
                session,
                tenant_id=self._tenant.tenant_id,
                actor=OPERATOR,
                granted=ALL_PERMISSIONS,
                wanted=NewApiKey(
                    name="made",
                    scopes=[Permission.EVENT_READ],
                    rate_limit_per_hour=rate,
                    expires_at=expires_at,
                ),
            )


@pytest.fixture
def make_key(services: Services, tenant: Account) -> KeyMaker:
    """Makes keys of the tenant."""
    return KeyMaker(services, tenant)


@pytest.fixture
def operator(anonymous: ApiClient, settings: Settings) -> ApiClient:
    """A client with the operator's key."""
    return anonymous.with_key(operator_key(settings))
