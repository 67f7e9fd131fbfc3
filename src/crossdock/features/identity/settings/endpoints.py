"""`/api/v1/settings/{category}/{key}`."""

from typing import Annotated

from fastapi import APIRouter, Query, status

from crossdock.features.identity.settings.schemas import Category, Key, SettingValue, SettingView
from crossdock.features.identity.settings.service import SettingService
from crossdock.http.access import CurrentActor, Principal, Requires, TenantSession
from crossdock.http.pagination import Page, Paging, cut
from crossdock.http.provided import Provided
from crossdock.kit.permissions import Permission

router = APIRouter(prefix="/api/v1/settings", tags=["Settings"])

Admin = Annotated[Principal, Requires(Permission.TENANT_ADMIN)]
Service = Annotated[SettingService, Provided(SettingService)]


@router.get("", summary="List settings")
async def list_settings(
    caller: Admin,
    session: TenantSession,
    settings: Service,
    page: Paging,
    category: Annotated[str | None, Query(pattern=r"^[a-z0-9_.-]{1,100}$")] = None,
) -> Page[SettingView]:
    """By category and key."""
    found = await settings.on_page(session, caller.tenant_id, page, category=category)
    rows, next_cursor = cut(found, page, lambda row: (row.category, row.key))
    return Page(items=[SettingView.of(row) for row in rows], next_cursor=next_cursor)


@router.get("/{category}/{key}", summary="Read a setting")
async def read_setting(
    caller: Admin, session: TenantSession, settings: Service, category: Category, key: Key
) -> SettingView:
    """One setting."""
    return SettingView.of(await settings.get(session, caller.tenant_id, category, key))


@router.put("/{category}/{key}", summary="Set a setting")
async def put_setting(
    caller: Admin,
    actor: CurrentActor,
    session: TenantSession,
    settings: Service,
    category: Category,
    key: Key,
    wanted: SettingValue,
) -> SettingView:
    """Made if need be; old and new value go to the audit log."""
    setting = await settings.put(
        session, tenant_id=caller.tenant_id, actor=actor, category=category, key=key, value=wanted.value
    )
    return SettingView.of(setting)


@router.delete("/{category}/{key}", status_code=status.HTTP_204_NO_CONTENT, summary="Remove a setting")
async def delete_setting(
    caller: Admin, actor: CurrentActor, session: TenantSession, settings: Service, category: Category, key: Key
) -> None:
    """The old value goes to the audit log."""
    await settings.remove(session, tenant_id=caller.tenant_id, actor=actor, category=category, key=key)
