"""`/api/v1/audit-log`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime

from crossdock.features.audit.schemas import AuditFilter, AuditLine
from crossdock.features.audit.service import AuditService
from crossdock.http.access import Principal, Requires, TenantSession
from crossdock.http.pagination import Page, Paging, cut
from crossdock.http.provided import Provided
from crossdock.kit.permissions import Permission

router = APIRouter(prefix="/api/v1/audit-log", tags=["Audit log"])

Auditor = Annotated[Principal, Requires(Permission.AUDIT_READ)]
_Text = Annotated[str | None, Query(max_length=200)]


async def _filter(
    *,
    entity_kind: Annotated[str | None, Query(max_length=200, description="Such as `api_key`.")] = None,
    entity_id: Annotated[str | None, Query(max_length=300, description="Such as `key_0192…`.")] = None,
    action: Annotated[str | None, Query(max_length=200, description="Such as `api_key.revoked`.")] = None,
    actor_id: _Text = None,
    correlation_id: _Text = None,
    since: AwareDatetime | None = None,
    until: Annotated[AwareDatetime | None, Query(description="Not included.")] = None,
) -> AuditFilter:
    return AuditFilter(
        entity_kind=entity_kind,
        entity_id=entity_id,
        action=action,
        actor_id=actor_id,
        correlation_id=correlation_id,
        since=since,
        until=until,
    )


@router.get("", summary="Read the audit log")
async def list_audit_log(
    caller: Auditor,
    session: TenantSession,
    audit: Annotated[AuditService, Provided(AuditService)],
    wanted: Annotated[AuditFilter, Depends(_filter)],
    page: Paging,
) -> Page[AuditLine]:
    """Newest first."""
    found = await audit.on_page(session, caller.tenant_id, wanted, page)
    rows, next_cursor = cut(found, page, lambda entry: entry.id)
    return Page(items=[AuditLine.of(entry) for entry in rows], next_cursor=next_cursor)
