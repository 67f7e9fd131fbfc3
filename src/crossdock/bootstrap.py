"""The only wiring: builds everything a process needs from its settings."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
from pydantic import SecretStr

from crossdock.connectors.manifest import ProviderLibrary
from crossdock.connectors.webhooks import BodyLimits, CertificateSource, presets
from crossdock.connectors.webhooks.certificate_fetching import FetchedCertificates
from crossdock.connectors.webhooks.certificate_signature import CertificateSignature
from crossdock.connectors.webhooks.trial_certificates import TrialCertificates, new_trial_identity, trial_certificate
from crossdock.db import migrate
from crossdock.db.changes import ChangeFeed
from crossdock.db.engine import Database
from crossdock.db.partitions import Partitions
from crossdock.db.server import serving_database
from crossdock.features.alerts.service import AlertService
from crossdock.features.audit.service import AuditService
from crossdock.features.deliveries.attempting import Attempter
from crossdock.features.deliveries.destinations import DestinationLoader
from crossdock.features.deliveries.dispatch import Dispatcher
from crossdock.features.deliveries.history import DeliveryHistory
from crossdock.features.deliveries.judging import Judge
from crossdock.features.deliveries.lane_repository import LaneRepository
from crossdock.features.deliveries.leases import LeaseLoop
from crossdock.features.deliveries.recording import Recorder
from crossdock.features.deliveries.routing import RouteTable
from crossdock.features.deliveries.sealed_columns import SIGN_IN, SIGNING_KEY
from crossdock.features.deliveries.sending import Sender
from crossdock.features.deliveries.service import SubscriptionLimits, SubscriptionService
from crossdock.features.deliveries.trial import Trial
from crossdock.features.events.catalogue import Catalogue
from crossdock.features.events.ingest import EventWriter
from crossdock.features.events.publishing import Publishing
from crossdock.features.events.service import EventService
from crossdock.features.identity.wiring import Identity, build_identity
from crossdock.features.inbound.bodies import Bodies, BodyPolicy
from crossdock.features.inbound.handlers import HandlerRegistry
from crossdock.features.inbound.secret_box import ENDPOINT_SECRET
from crossdock.features.inbound.wiring import Inbound, InboundWork, build_inbound, build_inbound_work
from crossdock.features.integrations.connections import ConnectionLoader
from crossdock.features.integrations.oauth.models import ACCESS_TOKEN, CODE_VERIFIER, REFRESH_TOKEN
from crossdock.features.integrations.oauth.service import AuthorizationService
from crossdock.features.integrations.oauth.wiring import OAuth, build_oauth
from crossdock.features.integrations.provider_calls import ProviderCalls, build_provider_calls, call_surroundings
from crossdock.features.integrations.sealed_columns import CREDENTIALS
from crossdock.features.integrations.wiring import Integrations, build_integrations
from crossdock.features.vault.reminders import Reminders
from crossdock.features.vault.ring import Ring
from crossdock.features.vault.rotation import Rotation
from crossdock.features.vault.sealed_answers import SealedAnswers
from crossdock.features.vault.service import Vault
from crossdock.features.vault.stores.opening import STORE_CREDENTIALS
from crossdock.features.vault.stores.outside import OutsideSecrets
from crossdock.features.vault.stores.service import StoreService
from crossdock.files.disk import DiskFiles
from crossdock.files.store import FileStore
from crossdock.gateway.addresses import AddressPolicy
from crossdock.gateway.breaker import BreakerPolicy
from crossdock.gateway.destination_auth import Authenticator
from crossdock.gateway.http_transport import HttpTransport
from crossdock.gateway.streaming import StreamingTransport
from crossdock.gateway.transport import Transport
from crossdock.http.access import OperatorKey
from crossdock.http.fair_turns import FairTurns
from crossdock.jobs.runner import JobRunner
from crossdock.jobs.tasks import TaskRegistry
from crossdock.kit.clock import Clock, SystemClock
from crossdock.kit.crypto import new_key
from crossdock.kit.secret_files import read_or_make, write
from crossdock.settings import Settings

_TRIAL_METHODS = {
    name: preset.signature for name, preset in presets().items() if isinstance(preset.signature, CertificateSignature)
}

# Every column that holds what the vault seals: what is not named here is not sealed anew when keys are changed.
SEALED_COLUMNS = (
    SIGN_IN,
    SIGNING_KEY,
    ENDPOINT_SECRET,
    STORE_CREDENTIALS,
    CREDENTIALS,
    ACCESS_TOKEN,
    REFRESH_TOKEN,
    CODE_VERIFIER,
)

_log = structlog.get_logger(__name__)

# A dead worker's jobs are taken over a little after its lanes.
_TAKEOVER_IN_LEASES = 1.5


@dataclass(slots=True, kw_only=True)
class Services:
    """What a running process has; made by `build`."""

    settings: Settings
    clock: Clock
    database: Database
    vault: Vault
    rotation: Rotation
    reminders: Reminders
    secret_stores: StoreService
    outside: OutsideSecrets
    operator_key: OperatorKey
    changes: ChangeFeed
    identity: Identity
    partitions: Partitions
    policy: AddressPolicy
    transport: Transport
    routes: RouteTable
    catalogue: Catalogue
    publishing: Publishing
    writer: EventWriter
    loader: DestinationLoader
    sender: Sender
    trial: Trial
    subscriptions: SubscriptionService
    handlers: HandlerRegistry
    files: FileStore
    bodies: Bodies
    turns: FairTurns
    inbound: Inbound
    sealed_answers: SealedAnswers
    calling: StreamingTransport
    oauth: OAuth
    integrations: Integrations
    provider_calls: ProviderCalls
    authorizations: AuthorizationService

    def provided(self) -> dict[type, object]:
        """The services that endpoints ask for, by type."""
        return {
            Database: self.database,
            OperatorKey: self.operator_key,
            AuditService: AuditService(),
            AlertService: AlertService(clock=self.clock),
            StoreService: self.secret_stores,
            **self.identity.provided(),
            EventService: EventService(changes=self.changes, clock=self.clock),
            SubscriptionService: self.subscriptions,
            DeliveryHistory: DeliveryHistory(clock=self.clock),
            Trial: self.trial,
            **self.inbound.provided(),
            **self.integrations.provided(),
            **self.provider_calls.provided(),
            AuthorizationService: self.authorizations,
        }


@asynccontextmanager
async def build(settings: Settings, *, clock: Clock | None = None, background: bool = True) -> AsyncIterator[Services]:
    """Everything a process needs, ready for use; stopped and closed on leaving.

    Without `background` nothing listens for changes: for commands that do one thing.
    Raises SchemaBehindError, EmbeddedError or UnavailableError when the database is not usable.
    """
    async with database_url(settings, kept_alive=background) as dsn:
        await migrate.check(dsn)
        database = Database(dsn)
        await database.open()
        services = _assemble(settings, clock=clock or SystemClock(), database=database)
        try:
            if background:
                await services.changes.start()
                services.identity.start()
            await database.check_roles()
            await services.partitions.make_ahead()
            await services.rotation.check_ring()
            services.writer.start()
            services.inbound.start()
            services.provider_calls.start()
            yield services
        finally:
            await services.inbound.stop()
            await services.writer.stop()
            await services.identity.stop()
            await services.changes.stop()
            await services.provider_calls.stop()
            await services.oauth.stop(settings.drain_timeout_s)
            await services.outside.aclose()
            await services.transport.aclose()
            await services.calling.aclose()
            await services.files.aclose()
            await database.close()


def _assemble(settings: Settings, *, clock: Clock, database: Database) -> Services:
    ring = Ring(partial(encryption_keys, settings))
    vault = Vault(database=database, ring=ring, clock=clock)
    files = file_store(settings)
    bodies = Bodies(files=files, policy=_body_policy(settings))
    changes = ChangeFeed(dsn=database.dsn)
    policy = AddressPolicy(allow_loopback=settings.allow_loopback, allowed=settings.allowed_networks)
    transport = HttpTransport(policy=policy, clock=clock)
    outside = OutsideSecrets(database=database, vault=vault, transport=transport, clock=clock)
    changes.on_change(outside.on_change)
    routes = RouteTable(database=database, changes=changes, clock=clock)
    catalogue = Catalogue(database=database, changes=changes, require_known=settings.require_event_types)
    loader = DestinationLoader(database=database, vault=vault)
    sender = Sender(authenticator=Authenticator(transport=transport, clock=clock), clock=clock)
    handlers = HandlerRegistry()
    handlers.load()
    turns = FairTurns(clock=clock)
    trial = Trial(database=database, loader=loader, sender=sender, clock=clock)
    library = ProviderLibrary.with_folders(settings.provider_folders)
    connections = ConnectionLoader(database=database, vault=vault, outside=outside, library=library, changes=changes)
    # Providers' connections are kept apart from those of subscriptions' destinations: neither waits for the other.
    calling = StreamingTransport(policy=policy, clock=clock)
    oauth = build_oauth(
        database=database, vault=vault, loader=connections, transport=calling, changes=changes, clock=clock
    )
    surroundings = call_surroundings(database=database, changes=changes, clock=clock)
    integrations = build_integrations(
        database=database,
        vault=vault,
        library=library,
        loader=connections,
        tokens=oauth,
        transport=calling,
        policy=policy,
        changes=changes,
        clock=clock,
        places=surroundings,
    )
    limits = SubscriptionLimits(most=settings.max_subscriptions, policy=policy, breaker=breaker_policy(settings))
    return Services(
        settings=settings,
        clock=clock,
        database=database,
        vault=vault,
        rotation=Rotation(database=database, vault=vault, ring=ring, columns=SEALED_COLUMNS, clock=clock),
        reminders=Reminders(
            database=database, columns=SEALED_COLUMNS, after_days=settings.secret_reminder_days, clock=clock
        ),
        secret_stores=StoreService(
            database=database, vault=vault, outside=outside, changes=changes, policy=policy, clock=clock
        ),
        outside=outside,
        operator_key=OperatorKey(operator_key(settings)),
        changes=changes,
        identity=build_identity(
            database=database,
            clock=clock,
            changes=changes,
            max_key_rate_per_hour=settings.max_key_rate_per_hour,
            secure_cookies=(settings.public_url or "").startswith("https://"),
        ),
        partitions=Partitions(database=database, clock=clock),
        policy=policy,
        transport=transport,
        routes=routes,
        catalogue=catalogue,
        publishing=Publishing(catalogue=catalogue, clock=clock, max_payload_bytes=settings.max_payload_bytes),
        writer=EventWriter(database=database, router=routes, clock=clock),
        loader=loader,
        sender=sender,
        trial=trial,
        subscriptions=SubscriptionService(
            database=database,
            vault=vault,
            trial=trial,
            changes=changes,
            limits=limits,
            clock=clock,
        ),
        handlers=handlers,
        files=files,
        bodies=bodies,
        turns=turns,
        inbound=build_inbound(
            database=database,
            vault=vault,
            changes=changes,
            certificates=_certificates(settings, transport=transport, clock=clock),
            handlers=handlers,
            clock=clock,
            bodies=bodies,
            turns=turns,
            base_url=settings.public_url,
        ),
        sealed_answers=SealedAnswers(database=database, vault=vault, ring=ring),
        calling=calling,
        oauth=oauth,
        integrations=integrations,
        provider_calls=build_provider_calls(
            surroundings=surroundings,
            connections=connections,
            signing=integrations.signing,
            transport=calling,
            changes=changes,
            clock=clock,
            max_body_bytes=settings.max_call_body_bytes,
        ),
        authorizations=oauth.authorizations(
            activate=integrations.activation.try_activating,
            public_url=settings.public_url,
            return_origins=settings.oauth_return_origins,
        ),
    )


def _certificates(settings: Settings, *, transport: Transport, clock: Clock) -> CertificateSource:
    """Where the certificates of webhooks' senders come from: the web, and for testing our own."""
    trusted = {}
    if settings.trust_test_webhooks:
        _log.warning(
            "test_webhooks_trusted",
            danger="Whoever can read the folder can forge webhooks of PayPal and Amazon SNS to every tenant.",
            folder=str(trial_folder(settings)),
            mend="Unset CROSSDOCK_TRUST_TEST_WEBHOOKS once the set-up is tried.",
        )
        trusted = {
            method.trial_url: trial_certificate(trial_identity(settings, name, method))
            for name, method in _TRIAL_METHODS.items()
        }
    fetched = FetchedCertificates(transport=transport, clock=clock)
    return TrialCertificates(others=fetched, trusted=trusted, urls={one.trial_url for one in _TRIAL_METHODS.values()})


def breaker_policy(settings: Settings) -> BreakerPolicy:
    """When destinations' breakers open and close."""
    return BreakerPolicy(
        failures=settings.breaker_failures,
        open_s=settings.breaker_open_s,
        successes=settings.breaker_successes,
    )


def inbound_work(services: Services) -> tuple[InboundWork, JobRunner]:
    """What processes inbound webhooks in a worker, and the runner of its jobs."""
    work = build_inbound_work(
        database=services.database,
        writer=services.writer,
        interest=services.routes,
        handlers=services.handlers,
        transport=services.transport,
        clock=services.clock,
        bodies=services.bodies,
        max_payload_bytes=services.settings.max_payload_bytes,
        pressure=services.inbound.pressure,
    )
    registry = TaskRegistry()
    work.register(registry)
    takeover_after_s = _TAKEOVER_IN_LEASES * services.settings.lease_s
    return work, JobRunner(database=services.database, registry=registry, takeover_after_s=takeover_after_s)


def lane_parts(services: Services) -> tuple[LaneRepository, Dispatcher, Recorder, LeaseLoop]:
    """What sends deliveries in a worker; the process's own event writer hands over to it."""
    settings, clock = services.settings, services.clock
    repository = LaneRepository(database=services.database, clock=clock)
    recorder = Recorder(database=services.database, disable_after_failed=settings.disable_after_failed)
    dispatcher = Dispatcher(
        repository=repository,
        loader=services.loader,
        attempter=Attempter(sender=services.sender, judge=Judge(routes=services.routes, clock=clock), clock=clock),
        recorder=recorder,
        breaker_policy=breaker_policy(settings),
        clock=clock,
    )
    leases = LeaseLoop(repository=repository, dispatcher=dispatcher, changes=services.changes, lease_s=settings.lease_s)
    services.routes.hand_over_to(dispatcher)
    return repository, dispatcher, recorder, leases


def file_store(settings: Settings) -> FileStore:
    """Where large webhook bodies are kept; to be closed with `aclose`."""
    if settings.files == "disk":
        return DiskFiles(settings.data_dir / "files")
    from crossdock.files.s3 import S3Files, S3Location  # noqa: PLC0415 - loading it takes longer than all the rest

    def plain(secret: SecretStr | None) -> str | None:
        return None if secret is None else secret.get_secret_value()

    return S3Files(
        S3Location(
            bucket=settings.files_s3_bucket or "",
            prefix=settings.files_s3_prefix,
            endpoint_url=settings.files_s3_endpoint_url,
            region=settings.files_s3_region,
            access_key_id=plain(settings.files_s3_access_key_id),
            secret_access_key=plain(settings.files_s3_secret_access_key),
            path_style=settings.files_s3_path_style,
        )
    )


def _body_policy(settings: Settings) -> BodyPolicy:
    return BodyPolicy(
        inline_bytes=settings.inline_body_bytes,
        at_once=settings.large_bodies_at_once,
        limits=BodyLimits(max_files=settings.max_upload_files, max_file_bytes=settings.max_upload_file_bytes),
    )


def database_url(
    settings: Settings, *, kept_alive: bool = False, migrated: bool = True
) -> AbstractAsyncContextManager[str]:
    """The owner's address of the configured database, or of our own: see `serving_database`."""
    url = settings.database_url
    return serving_database(
        None if url is None else url.get_secret_value(),
        data_dir=settings.data_dir,
        processes=settings.workers,
        kept_alive=kept_alive,
        migrated=migrated,
    )


def encryption_keys(settings: Settings) -> list[str]:
    """The configured encryption keys, or the installation's own, made on first use."""
    if settings.encryption_keys is not None:
        keys = settings.encryption_keys.get_secret_value()
    else:
        keys = read_or_make(encryption_key_file(settings), partial(_first_encryption_key, settings))
    return [key.strip() for key in keys.split(",") if key.strip()]


def encryption_key_file(settings: Settings) -> Path:
    """Where the installation's own encryption keys lie, when none are configured."""
    return settings.data_dir / "encryption_keys"


def add_encryption_key(settings: Settings) -> None:
    """Put a new key before the installation's own."""
    write(encryption_key_file(settings), ",".join([new_key(), *encryption_keys(settings)]))


def _first_encryption_key(settings: Settings) -> str:
    _log.warning(
        "encryption_key_made",
        file=str(encryption_key_file(settings)),
        back_up="Copy it to a safe place apart from the database: without it no stored secret can be opened.",
    )
    return new_key()


def operator_key(settings: Settings) -> str:
    """The configured operator key, or the installation's own, made on first use."""
    if settings.operator_key is not None:
        return settings.operator_key.get_secret_value()
    return read_or_make(settings.data_dir / "operator_key", lambda: f"cdo_{secrets.token_urlsafe(32)}")


def trial_folder(settings: Settings) -> Path:
    """Where the keys lie with which `crossdock webhook sign` signs in a sender's place."""
    return settings.data_dir / "webhook-testing"


def trial_identity(settings: Settings, preset: str, method: CertificateSignature) -> str:
    """The installation's own key and certificate to test a preset's webhooks with, made on first use."""
    path = trial_folder(settings) / f"{preset}.pem"
    return read_or_make(path, lambda: new_trial_identity(method, now=SystemClock().now()))
