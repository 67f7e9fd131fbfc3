"""The parts of integrations, put together for the one who builds everything."""

from collections.abc import Mapping
from dataclasses import dataclass

from crossdock.connectors.manifest import ProviderLibrary
from crossdock.db.changes import ChangeFeed
from crossdock.db.engine import Database
from crossdock.features.integrations.activation import Activation
from crossdock.features.integrations.connections import ConnectionLoader
from crossdock.features.integrations.health_checks import HealthChecks
from crossdock.features.integrations.planning import Planner
from crossdock.features.integrations.service import IntegrationService
from crossdock.features.integrations.signing import PlannedTokens, Signing, TokenProviders
from crossdock.features.integrations.testing import CallPlaces, ConnectionTester
from crossdock.features.vault.service import Vault
from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.streaming import StreamingTransport
from crossdock.kit.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Integrations:
    """What there is of integrations in a process."""

    library: ProviderLibrary
    loader: ConnectionLoader
    signing: Signing
    activation: Activation
    service: IntegrationService
    checks: HealthChecks

    def provided(self) -> Mapping[type, object]:
        """What endpoints ask for, by type."""
        return {ProviderLibrary: self.library, Activation: self.activation, IntegrationService: self.service}


def build_integrations(  # noqa: PLR0913 - each is a part that it is built on
    *,
    database: Database,
    vault: Vault,
    library: ProviderLibrary,
    loader: ConnectionLoader,
    tokens: TokenProviders,
    transport: StreamingTransport,
    policy: AddressPolicy,
    changes: ChangeFeed,
    clock: Clock,
    places: CallPlaces | None = None,
) -> Integrations:
    """Everything of integrations; `places` is what their calls share with those of other processes."""
    planner = Planner(library=library, policy=policy)
    signing = Signing(tokens=tokens)
    planned = Signing(tokens=PlannedTokens(stored=tokens, transport=transport, clock=clock))
    tester = ConnectionTester(transport=transport, signing=signing, planned_signing=planned, places=places, clock=clock)
    activation = Activation(
        database=database, vault=vault, loader=loader, planner=planner, tester=tester, changes=changes, clock=clock
    )
    return Integrations(
        library=library,
        loader=loader,
        signing=signing,
        activation=activation,
        service=IntegrationService(
            database=database, library=library, planner=planner, activation=activation, clock=clock
        ),
        checks=HealthChecks(database=database, loader=loader, tester=tester, clock=clock),
    )
