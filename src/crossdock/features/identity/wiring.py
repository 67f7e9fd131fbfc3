"""Everything of tenants, users and keys, built together."""

from dataclasses import dataclass

import structlog

from crossdock.db.changes import ChangeFeed
from crossdock.db.engine import Database
from crossdock.features.identity.api_keys.allowances import Allowances
from crossdock.features.identity.api_keys.service import ApiKeyService
from crossdock.features.identity.api_keys.usage import UsageWriter
from crossdock.features.identity.authentication import Authenticator
from crossdock.features.identity.passwords import Passwords
from crossdock.features.identity.sessions.service import SessionService
from crossdock.features.identity.settings.service import SettingService
from crossdock.features.identity.tenants.service import TenantService
from crossdock.features.identity.users.roles import RoleService
from crossdock.features.identity.users.service import UserService
from crossdock.http.access import Gatekeeper
from crossdock.kit.clock import Clock
from crossdock.kit.errors import UnavailableError

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The services of this feature; `start` and `stop` what of them works by itself."""

    authenticator: Authenticator
    allowances: Allowances
    usage: UsageWriter
    passwords: Passwords
    tenants: TenantService
    users: UserService
    roles: RoleService
    sessions: SessionService
    api_keys: ApiKeyService
    settings: SettingService

    def provided(self) -> dict[type, object]:
        """The services that endpoints ask for, by type."""
        return {
            Gatekeeper: self.authenticator,
            Authenticator: self.authenticator,
            TenantService: self.tenants,
            UserService: self.users,
            RoleService: self.roles,
            SessionService: self.sessions,
            ApiKeyService: self.api_keys,
            SettingService: self.settings,
        }

    def start(self) -> None:
        """Begin to write the use of keys."""
        self.usage.start()

    async def stop(self) -> None:
        """Write and give back what is only in memory, as far as the database can be reached."""
        try:
            await self.usage.stop()
            await self.allowances.close()
        except UnavailableError as error:
            _log.warning("allowances_not_given_back", error=error.message)
        self.passwords.close()


def build_identity(
    *,
    database: Database,
    clock: Clock,
    changes: ChangeFeed,
    max_key_rate_per_hour: int,
    secure_cookies: bool,
    passwords: Passwords | None = None,
) -> Identity:
    """The services of this feature, listening to `changes`."""
    passwords = passwords or Passwords()
    allowances = Allowances(database=database, clock=clock)
    usage = UsageWriter(database=database)
    authenticator = Authenticator(database=database, clock=clock, allowances=allowances, usage=usage)
    changes.on_change(authenticator.changed)

    users = UserService(clock=clock, passwords=passwords, forget_tenant=authenticator.forget_tenant)
    roles = RoleService(forget_tenant=authenticator.forget_tenant)
    api_keys = ApiKeyService(
        clock=clock, max_rate_per_hour=max_key_rate_per_hour, forget_tenant=authenticator.forget_tenant
    )
    return Identity(
        authenticator=authenticator,
        allowances=allowances,
        usage=usage,
        passwords=passwords,
        tenants=TenantService(
            clock=clock, users=users, roles=roles, api_keys=api_keys, forget_tenant=authenticator.forget_tenant
        ),
        users=users,
        roles=roles,
        sessions=SessionService(
            database=database,
            clock=clock,
            passwords=passwords,
            forget_tenant=authenticator.forget_tenant,
            secure_cookies=secure_cookies,
        ),
        api_keys=api_keys,
        settings=SettingService(clock=clock),
    )
