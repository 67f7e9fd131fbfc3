"""Receipts that wait to be processed, with what processing needs of their endpoints."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from crossdock.features.inbound.models import EndpointTarget


@dataclass(frozen=True, slots=True, kw_only=True)
class DueEndpoint:
    """What processing needs of a receipt's endpoint."""

    id: UUID
    name: str
    path: str
    preset: str
    settings: Any
    event_id_expression: str | None
    event_type: str | None
    transformation: str | None
    target: EndpointTarget
    handler: str | None
    ordered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DueReceipt:
    """A receipt to process; `endpoint` is None when it was deleted meanwhile.

    With `body_file`, the body is in the file store and not here. `wait_s` is how long it, and those
    behind it on an ordered endpoint, must still wait for its next try. `was_begun` says that there was a
    try, or that one began with this receipt and never came to its end.
    """

    tenant_id: UUID
    id: UUID
    parent_id: UUID | None
    external_id: str | None
    event_type: str | None
    method: str
    url: str
    headers: list[tuple[str, str]]
    content_type: str | None
    body: bytes = field(repr=False)
    body_file: str | None
    source_address: str | None
    correlation_id: str
    received_at: datetime
    try_count: int
    wait_s: float
    was_begun: bool
    endpoint_id: UUID
    endpoint: DueEndpoint | None

    @property
    def is_ordered(self) -> bool:
        """Whether it must wait for those before it."""
        return self.endpoint is not None and self.endpoint.ordered


# Of receipts `r`, with `e` for their endpoints.
COLUMNS = """
       r.tenant_id, r.id, r.parent_id, r.endpoint_id, r.external_id, r.event_type, r.method, r.url, r.headers,
       r.content_type, r.body, r.body_file, r.source_address, r.correlation_id, r.received_at, r.try_count,
       greatest(0, coalesce(extract(epoch FROM r.retry_at - now()), 0))::float8 AS wait_s,
       r.retry_at IS NOT NULL AS was_begun,
       e.name, e.path, e.preset, e.scheme, e.event_id_expression, e.event_type AS fixed_type, e.transformation,
       e.target::text, e.handler, e.ordered
"""
ENDPOINT_OF_R = "LEFT JOIN webhook_endpoints e ON e.tenant_id = r.tenant_id AND e.id = r.endpoint_id"


def due_receipt_of(row: Any) -> DueReceipt:  # noqa: ANN401 - asyncpg's rows have no better type
    """From a row of these columns."""
    endpoint = None
    if row["name"] is not None:
        endpoint = DueEndpoint(
            id=row["endpoint_id"],
            name=row["name"],
            path=row["path"],
            preset=row["preset"],
            settings=None if row["scheme"] is None else msgspec.json.decode(row["scheme"]),
            event_id_expression=row["event_id_expression"],
            event_type=row["fixed_type"],
            transformation=row["transformation"],
            target=EndpointTarget(row["target"]),
            handler=row["handler"],
            ordered=row["ordered"],
        )
    return DueReceipt(
        tenant_id=row["tenant_id"],
        id=row["id"],
        parent_id=row["parent_id"],
        external_id=row["external_id"],
        event_type=row["event_type"],
        method=row["method"],
        url=row["url"],
        headers=[(name, value) for name, value in msgspec.json.decode(row["headers"])],
        content_type=row["content_type"],
        body=row["body"],
        body_file=row["body_file"],
        source_address=row["source_address"],
        correlation_id=row["correlation_id"],
        received_at=row["received_at"],
        try_count=row["try_count"],
        wait_s=row["wait_s"],
        was_begun=row["was_begun"],
        endpoint_id=row["endpoint_id"],
        endpoint=endpoint,
    )
