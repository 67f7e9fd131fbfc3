"""What is kept of refused webhooks: masked samples, each with what may be the matter."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

import structlog

from crossdock.connectors.webhooks import InboundRequest, Preset
from crossdock.connectors.webhooks.diagnose import MAX_BODY_BYTES, OtherSecret, Refused, diagnose
from crossdock.db.engine import Database
from crossdock.features.inbound.masking import masked_headers, masked_start, masked_text, masked_url
from crossdock.features.inbound.models import RefusedWebhook
from crossdock.features.inbound.refusal_repository import OwnedSecret, RefusalRepository
from crossdock.features.inbound.secret_box import SecretBox
from crossdock.kit.errors import CrossdockError
from crossdock.kit.ids import new_uuid

# What may wait in memory. A flood's later ones are not looked at.
_MOST_WAITING = 200
_MOST_WAITING_BYTES = 8_000_000
_OVERHEAD_BYTES = 1_000
_START_BYTES = 10_000
# Finding out what is the matter takes thousandths of a second each; so many in a round leave time for others.
_A_ROUND = 5
# After a round, for so many times as long as it took.
_REST = 4

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalSample:
    """A refused webhook as it came; `secrets` are those that counted, `urls` others it may have been sent to."""

    tenant_id: UUID
    endpoint_id: UUID
    preset: Preset
    request: InboundRequest = field(repr=False)
    body_bytes: int
    secrets: Sequence[str] = field(repr=False)
    urls: Sequence[str]
    reason: str
    message: str
    correlation_id: str
    source_address: str | None
    refused_at: datetime

    @property
    def size_bytes(self) -> int:
        """About how much memory it takes."""
        headers = sum(len(name) + len(value) for name, value in self.request.headers.items())
        return _OVERHEAD_BYTES + len(self.request.body) + headers


class RefusalSamples:
    """Keeps the newest samples of each endpoint, as far as there is time and room to look into them."""

    def __init__(self, *, database: Database, secret_box: SecretBox) -> None:
        self._database = database
        self._secret_box = secret_box
        self._waiting: list[RefusalSample] = []
        self._waiting_bytes = 0
        self._rests_until_s = 0.0

    def offer(self, make: Callable[[], RefusalSample]) -> None:
        """Take a sample, which is made only if there is room for it; costs no input or output."""
        if len(self._waiting) >= _MOST_WAITING or self._waiting_bytes >= _MOST_WAITING_BYTES:
            return
        sample = _within_bounds(make())
        if self._waiting_bytes + sample.size_bytes <= _MOST_WAITING_BYTES:
            self._waiting.append(sample)
            self._waiting_bytes += sample.size_bytes

    async def write_some(self) -> None:
        """Look into the first few that wait, and store them; never raises.

        Does nothing while it rests from the last time: whoever has webhooks refused shall not have the processor.
        """
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        if began_s >= self._rests_until_s:
            await self._write_first()
            self._rests_until_s = loop.time() + _REST * (loop.time() - began_s)

    async def _write_first(self) -> None:
        taken, self._waiting = self._waiting[:_A_ROUND], self._waiting[_A_ROUND:]
        self._waiting_bytes -= sum(sample.size_bytes for sample in taken)
        by_tenant: dict[UUID, list[RefusalSample]] = defaultdict(list)
        for sample in taken:
            by_tenant[sample.tenant_id].append(sample)
        for tenant_id, samples in by_tenant.items():
            try:
                await self._write_for(tenant_id, samples)
            except Exception as error:  # noqa: BLE001 - a sample is a courtesy, and the audit has its line
                _log.warning("refusal_samples_not_kept", samples=len(samples), error=repr(error))

    async def write_all(self) -> None:
        """Look into all that wait, and store them; never raises."""
        while self._waiting:
            await self._write_first()

    async def _write_for(self, tenant_id: UUID, samples: Sequence[RefusalSample]) -> None:
        known = await self._known_secrets(tenant_id, {sample.preset.name for sample in samples})
        # Beside the event loop: trying hundreds of signatures takes a while, and the door is not to wait for it.
        rows = [await asyncio.to_thread(_row, sample, known[sample.preset.name]) for sample in samples]
        async with self._database.tenant(tenant_id) as session:
            await RefusalRepository(session).keep(rows)

    async def _known_secrets(self, tenant_id: UUID, presets: set[str]) -> dict[str, list[tuple[OwnedSecret, str]]]:
        known: dict[str, list[tuple[OwnedSecret, str]]] = defaultdict(list)
        async with self._database.tenant(tenant_id) as session:
            repository = RefusalRepository(session)
            for preset in presets:
                found = await repository.secrets_with_preset(preset)
                await self._secret_box.load(session, (owned.secret for owned in found))
                for owned in found:
                    try:
                        known[preset].append((owned, self._secret_box.open(owned.secret)))
                    except CrossdockError:
                        continue  # the endpoint itself says so when it is called
        return known


def _within_bounds(sample: RefusalSample) -> RefusalSample:
    """The sample, of a body that is too large to be looked into with the beginning alone."""
    body = sample.request.body
    if len(body) <= MAX_BODY_BYTES:
        return sample
    return replace(sample, request=replace(sample.request, body=body[:_START_BYTES]))


def _row(sample: RefusalSample, known: Sequence[tuple[OwnedSecret, str]]) -> RefusedWebhook:
    secrets = {*sample.secrets, *(secret for _, secret in known)}
    request = sample.request
    return RefusedWebhook(
        tenant_id=sample.tenant_id,
        id=new_uuid(),
        endpoint_id=sample.endpoint_id,
        reason=sample.reason,
        message=masked_text(sample.message, secrets),
        hints=[masked_text(hint, secrets) for hint in _hints(sample, known)],
        method=request.method,
        url=masked_url(request.url, secrets),
        headers=masked_headers(request.headers, secrets, secret_names=sample.preset.secret_headers),
        body_start=masked_start(request.body, secrets),
        body_bytes=sample.body_bytes,
        source_address=sample.source_address,
        correlation_id=sample.correlation_id,
        refused_at=sample.refused_at,
    )


def _hints(sample: RefusalSample, known: Sequence[tuple[OwnedSecret, str]]) -> list[str]:
    others = [other for owned, secret in known if (other := _other(sample, owned, secret)) is not None]
    refused = Refused(
        preset=sample.preset,
        request=sample.request,
        reason=sample.reason,
        secrets=sample.secrets,
        # A secret that was rotated out is likelier than one of another endpoint.
        others=sorted(others, key=lambda other: other.owner is not None),
        urls=sample.urls,
        source_address=sample.source_address,
        now=sample.refused_at,
    )
    try:
        return diagnose(refused)
    except Exception:  # noqa: BLE001 - whatever a webhook holds, that it was refused must be told
        _log.exception("refusal_not_diagnosed", endpoint_id=str(sample.endpoint_id), reason=sample.reason)
        return []


def _other(sample: RefusalSample, owned: OwnedSecret, secret: str) -> OtherSecret | None:
    """The secret as one that does not count; None for one that did, or that was set after the refusal."""
    is_own = owned.endpoint.id == sample.endpoint_id
    if secret in sample.secrets or (is_own and owned.secret.expires_at is None):
        return None
    if is_own:
        return OtherSecret(secret=secret, ended_at=owned.secret.expires_at)
    return OtherSecret(secret=secret, owner=f'the endpoint "{owned.endpoint.name}" (path {owned.endpoint.path})')
