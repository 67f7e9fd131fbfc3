"""Everything of inbound webhooks, built together."""

from dataclasses import dataclass

from starlette.routing import Route

from crossdock.connectors.webhooks import CertificateSource
from crossdock.db.changes import ChangeFeed
from crossdock.db.engine import Database
from crossdock.features.inbound.bodies import Bodies
from crossdock.features.inbound.doors import DoorTable
from crossdock.features.inbound.drain import Drain
from crossdock.features.inbound.drain_locks import DrainLocks
from crossdock.features.inbound.drain_repository import DrainRepository
from crossdock.features.inbound.handlers import HandlerRegistry
from crossdock.features.inbound.intake import Intake
from crossdock.features.inbound.pressure import Pressure
from crossdock.features.inbound.processor import Interest, Processor, Publisher
from crossdock.features.inbound.receipts import ReceiptService
from crossdock.features.inbound.receive import Receiver
from crossdock.features.inbound.refusal_samples import RefusalSamples
from crossdock.features.inbound.refusals import RefusalLog
from crossdock.features.inbound.secret_box import SecretBox
from crossdock.features.inbound.service import EndpointService
from crossdock.features.inbound.sweep import InboundSweep
from crossdock.features.inbound.tasks import PROCESS_TIMEOUT_S, RETRY, InboundTasks
from crossdock.features.inbound.worker_repository import WorkerRepository
from crossdock.features.vault.service import Vault
from crossdock.gateway.transport import Transport
from crossdock.http.fair_turns import FairTurns
from crossdock.jobs.tasks import RetryPolicy, TaskRegistry
from crossdock.kit.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbound:
    """The services of this feature that an API needs; `start` and `stop` what of them works by itself."""

    endpoints: EndpointService
    receipts: ReceiptService
    handlers: HandlerRegistry
    intake: Intake
    refusals: RefusalLog
    receiver: Receiver
    pressure: Pressure

    def provided(self) -> dict[type, object]:
        """The services that endpoints ask for, by type."""
        return {EndpointService: self.endpoints, ReceiptService: self.receipts, HandlerRegistry: self.handlers}

    def routes(self) -> list[Route]:
        """The routes to hang before the API's own."""
        return [self.receiver.route()]

    def start(self) -> None:
        """Begin to store webhooks and to write the audit of those refused."""
        self.intake.start()
        self.refusals.start()

    async def stop(self) -> None:
        """Stop storing, and write what is left of the audit."""
        await self.intake.stop()
        await self.refusals.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundWork:
    """What a worker does of this feature: its tasks, and `sweep.run` once a minute."""

    repository: WorkerRepository
    locks: DrainLocks
    tasks: InboundTasks
    sweep: InboundSweep

    def register(self, registry: TaskRegistry) -> None:
        """Make the tasks known."""
        self.tasks.register(registry)

    def start(self) -> None:
        """Begin, before the runner of the tasks does."""
        self.repository.start()

    async def stop(self) -> None:
        """Stop, after the runner of the tasks did."""
        await self.repository.stop()
        await self.locks.stop()


def build_inbound(  # noqa: PLR0913 - one for each part that it is made of
    *,
    database: Database,
    vault: Vault,
    changes: ChangeFeed,
    certificates: CertificateSource,
    handlers: HandlerRegistry,
    clock: Clock,
    bodies: Bodies,
    turns: FairTurns,
    base_url: str | None,
) -> Inbound:
    """What an API needs, listening to `changes`; `base_url` is where the world reaches this hub."""
    secret_box = SecretBox(vault=vault)
    doors = DoorTable(database=database, secret_box=secret_box, clock=clock)
    changes.on_change(doors.on_change)
    intake = Intake(database=database, clock=clock)
    samples = RefusalSamples(database=database, secret_box=secret_box)
    refusals = RefusalLog(database=database, samples=samples, clock=clock)
    pressure = Pressure()
    return Inbound(
        endpoints=EndpointService(
            database=database, secret_box=secret_box, changes=changes, handlers=handlers, clock=clock, base_url=base_url
        ),
        receipts=ReceiptService(bodies=bodies),
        handlers=handlers,
        intake=intake,
        refusals=refusals,
        receiver=Receiver(
            doors=doors,
            intake=intake,
            refusals=refusals,
            certificates=certificates,
            bodies=bodies,
            pressure=pressure,
            turns=turns,
            clock=clock,
            base_url=base_url,
        ),
        pressure=pressure,
    )


def build_inbound_work(  # noqa: PLR0913 - one for each part that it is made of
    *,
    database: Database,
    writer: Publisher,
    interest: Interest,
    handlers: HandlerRegistry,
    transport: Transport,
    clock: Clock,
    bodies: Bodies,
    max_payload_bytes: int,
    pressure: Pressure | None = None,
    retry: RetryPolicy = RETRY,
) -> InboundWork:
    """What a worker does; it gives way to the `pressure` on the API of the same process, where there is one.

    `interest` (the routes of deliveries) says whether `webhook.received` is worth an event.
    """
    repository = WorkerRepository(database=database)
    locks = DrainLocks(database=database)
    processor = Processor(
        receipts=repository,
        events=writer,
        interest=interest,
        handlers=handlers,
        transport=transport,
        clock=clock,
        bodies=bodies,
        max_payload_bytes=max_payload_bytes,
    )
    drain = Drain(
        repository=DrainRepository(database=database),
        locks=locks,
        receipts=repository,
        processor=processor,
        clock=clock,
        retry=retry,
        timeout_s=PROCESS_TIMEOUT_S,
    )
    return InboundWork(
        repository=repository,
        locks=locks,
        tasks=InboundTasks(
            receipts=repository, processor=processor, drain=drain, pressure=pressure or Pressure(), retry=retry
        ),
        sweep=InboundSweep(receipts=repository, clock=clock),
    )
