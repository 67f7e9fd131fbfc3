"""Writing down calls: aside, in batches, so that no call waits for it; what cannot be written is counted and told.

In memory a record may wait for as long as the database is away. When many do, bodies are left out first.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from uuid import UUID

import msgspec
import structlog

from crossdock.db.engine import CONNECTION_LOST, Database, Role
from crossdock.features.integrations.calls.refusals import AccessRefusals
from crossdock.gateway.call_log import CallRecord, CallSink
from crossdock.gateway.call_masking import MaskedCall, masked
from crossdock.gateway.classification import Outcome
from crossdock.observability import metrics

# Calls gather for so long, or until so many are there: a transaction for each would cost more than the call.
_GATHER_S = 0.1
_MOST_AT_ONCE = 200  # more would hold up others while they are put together
_RETRY_S = 1.0
# Masking takes as long as a call: between so many, others have their turn. The more wait, the more at a time, or under
# load, when others take long turns, the log would fall behind the calls.
_MASKED_IN_A_ROW = 4
_ONE_MORE_PER_WAITING = 100
_MOST_MASKED_IN_A_ROW = 64
_RECORD_BYTES = 2_000
_MAX_WAITING_BYTES = 64 * 1024 * 1024
_TELL_EVERY_S = 5.0
_OUTBOUND = "outbound"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Entry:
    tenant_id: UUID
    integration_id: UUID
    record: CallRecord
    max_body_bytes: int

    @property
    def size(self) -> int:
        record = self.record
        headers = sum([len(name) + len(value) for name, value in (*record.request_headers, *record.response_headers)])
        bodies = len(record.request_body or b"") + len(record.response_body or b"")
        return _RECORD_BYTES + len(record.url) + headers + bodies


class CallWriter:
    """Takes records of calls and writes them; to be started and stopped."""

    def __init__(
        self, *, database: Database, refusals: AccessRefusals, max_waiting_bytes: int = _MAX_WAITING_BYTES
    ) -> None:
        self._database = database
        self._refusals = refusals
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting: deque[_Entry] = deque()
        self._waiting_bytes = 0
        self._unwritten = 0
        self._arrived = asyncio.Event()
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def sink(self, tenant_id: UUID, integration_id: UUID, *, max_body_bytes: int) -> CallSink:
        """Where the records of one integration's calls go."""
        return _Sink(self, tenant_id, integration_id, max_body_bytes)

    def add(self, entry: _Entry) -> None:
        """Take a record."""
        size = entry.size
        if self._waiting_bytes + size > self._max_waiting_bytes // 2:
            entry = replace(entry, record=replace(entry.record, request_body=None, response_body=None))
            size = entry.size
        if self._waiting_bytes + size > self._max_waiting_bytes:
            self._lose(1)
            return
        self._waiting.append(entry)
        self._waiting_bytes += size
        self._arrived.set()

    def start(self) -> None:
        """Start writing."""
        self._stopping.clear()
        self._tasks = [
            asyncio.create_task(self._run(), name="call-log"),
            asyncio.create_task(self._tell(), name="call-log-losses"),
        ]

    async def stop(self, timeout_s: float = 5.0) -> None:
        """Write what waits, within this time; what is left then is counted as lost."""
        self._stopping.set()
        self._arrived.set()
        if self._tasks:
            await asyncio.wait(self._tasks[:1], timeout=timeout_s)
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._tasks = []
        self._lose(len(self._waiting))
        self._waiting.clear()
        self._waiting_bytes = 0
        self._tell_losses()

    async def _run(self) -> None:
        while True:
            if not self._waiting:
                if self._stopping.is_set():
                    return
                self._arrived.clear()
                await self._arrived.wait()
            if len(self._waiting) < _MOST_AT_ONCE:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_GATHER_S):
                        await self._stopping.wait()
            await self._write_some()

    async def _write_some(self) -> None:
        """Write the records that wait the longest; they leave the queue once that is done."""
        entries = [self._waiting[index] for index in range(min(len(self._waiting), _MOST_AT_ONCE))]
        rows: list[tuple[_Entry, MaskedCall]] = []
        left = 0
        for entry in entries:
            if left == 0:
                await asyncio.sleep(0)
                left = min(_MASKED_IN_A_ROW + len(self._waiting) // _ONE_MORE_PER_WAITING, _MOST_MASKED_IN_A_ROW)
            left -= 1
            try:
                rows.append((entry, masked(entry.record, max_body_bytes=entry.max_body_bytes)))
            except Exception as error:  # noqa: BLE001 - one record must not end the log
                _log.error("call_not_masked", call_id=str(entry.record.id), error=type(error).__name__)
                self._lose(1)
        while not await self._written(rows):  # noqa: ASYNC110 - the database does not say when it is back
            await asyncio.sleep(_RETRY_S)
        for entry in entries:
            self._waiting.popleft()
            self._waiting_bytes -= entry.size

    async def _written(self, rows: Sequence[tuple[_Entry, MaskedCall]]) -> bool:
        """Whether the rows are over and done with; not when the database is away."""
        if not rows:
            return True
        try:
            async with self._database.pool(Role.INGEST).acquire() as connection:
                await connection.execute(_INSERT, *_columns(rows))
        except CONNECTION_LOST as error:
            _log.warning("calls_not_written_yet", calls=len(self._waiting), error=repr(error))
            return False
        except Exception as error:  # noqa: BLE001 - whatever it is, the log goes on
            # One row that the database refuses must not take the others with it.
            if len(rows) == 1:
                _log.error("call_not_written", call_id=str(rows[0][0].record.id), error=repr(error))
                self._lose(1)
                return True
            middle = len(rows) // 2
            return await self._written(rows[:middle]) and await self._written(rows[middle:])
        try:
            await self._refusals.tell(
                [(entry.tenant_id, entry.integration_id, entry.record) for entry, _ in rows if _is_refused(entry)]
            )
        except Exception:  # noqa: BLE001 - the calls are in the log, and others are to come
            _log.exception("refusals_not_told")
        return True

    def _lose(self, count: int) -> None:
        if count:
            self._unwritten += count
            metrics.CALLS_UNLOGGED.inc(count)

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(_TELL_EVERY_S)
            self._tell_losses()

    def _tell_losses(self) -> None:
        lost, self._unwritten = self._unwritten, 0
        if lost:
            _log.error("calls_not_logged", calls=lost, reason="The database did not take them, and memory is bounded.")


class _Sink:
    __slots__ = ("_integration_id", "_max_body_bytes", "_tenant_id", "_writer")

    def __init__(self, writer: CallWriter, tenant_id: UUID, integration_id: UUID, max_body_bytes: int) -> None:
        self._writer = writer
        self._tenant_id = tenant_id
        self._integration_id = integration_id
        self._max_body_bytes = max_body_bytes

    def add(self, record: CallRecord) -> None:
        self._writer.add(_Entry(self._tenant_id, self._integration_id, record, self._max_body_bytes))


def _is_refused(entry: _Entry) -> bool:
    return entry.record.outcome is Outcome.FORBIDDEN


def _columns(rows: Sequence[tuple[_Entry, MaskedCall]]) -> list[list[object]]:
    encode = msgspec.json.encode
    table = [
        (
            entry.tenant_id,
            entry.record.id,
            entry.integration_id,
            _OUTBOUND,
            entry.record.correlation_id,
            entry.record.attempt,
            entry.record.retry_of,
            entry.record.started_at,
            entry.record.duration_ms,
            entry.record.method,
            call.url,
            call.path,
            entry.record.outcome.value,
            entry.record.status,
            entry.record.error_code,
            call.error,
            entry.record.stale,
            entry.record.remote_address,
            encode(call.request_headers).decode(),
            call.request_body,
            entry.record.request_bytes,
            encode(call.response_headers).decode(),
            call.response_body,
            entry.record.response_bytes,
        )
        for entry, call in rows
    ]
    return [list(column) for column in zip(*table, strict=True)]


# Written again after an answer that did not come, a call is there once.
_INSERT = """
INSERT INTO calls (tenant_id, id, integration_id, direction, correlation_id, attempt, retry_of, started_at, duration_ms,
                   method, url, path, outcome, status_code, error_code, error, stale, remote_address,
                   request_headers, request_body, request_bytes, response_headers, response_body, response_bytes)
SELECT a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s::jsonb, t, u, v::jsonb, w, x
  FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::int2[], $7::uuid[], $8::timestamptz[],
              $9::float8[], $10::text[], $11::text[], $12::text[], $13::text[], $14::int2[], $15::text[], $16::text[],
              $17::bool[], $18::text[], $19::text[], $20::text[], $21::int8[], $22::text[], $23::text[], $24::int8[])
       AS v (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x)
ON CONFLICT DO NOTHING
"""
