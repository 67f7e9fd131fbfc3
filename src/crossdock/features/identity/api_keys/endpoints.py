"""`/api/v1/apikeys`."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query, status

from crossdock.features.identity.api_keys.schemas import (
    ApiKeyChange,
    ApiKeyView,
    CreatedApiKey,
    NewApiKey,
    RotatedApiKey,
    Rotation,
)
from crossdock.features.identity.api_keys.service import ApiKeyService
from crossdock.http.access import CurrentActor, Principal, Requires, TenantSession
from crossdock.http.pagination import Page, Paging, cut
from crossdock.http.provided import Provided
from crossdock.http.schemas import Reason
from crossdock.kit.ids import IdKind, parse_id
from crossdock.kit.permissions import Permission

router = APIRouter(prefix="/api/v1/apikeys", tags=["API keys"])

KeyKeeper = Annotated[Principal, Requires(Permission.APIKEY_MANAGE)]
Service = Annotated[ApiKeyService, Provided(ApiKeyService)]


@router.post("", status_code=status.HTTP_201_CREATED, summary="Create an API key")
async def create_api_key(
    caller: KeyKeeper, actor: CurrentActor, session: TenantSession, keys: Service, wanted: NewApiKey
) -> CreatedApiKey:
    """The key is in the answer this once; it may at most do what you may."""
    key, text = await keys.create(
        session, tenant_id=caller.tenant_id, actor=actor, granted=caller.permissions, wanted=wanted
    )
    return CreatedApiKey.made(key, text, keys.now())


@router.get("", summary="List API keys")
async def list_api_keys(caller: KeyKeeper, session: TenantSession, keys: Service, page: Paging) -> Page[ApiKeyView]:
    """Newest first, revoked ones too."""
    rows, next_cursor = cut(await keys.on_page(session, caller.tenant_id, page), page, lambda key: key.id)
    return Page(items=[ApiKeyView.of(key, keys.now()) for key in rows], next_cursor=next_cursor)


@router.get("/{key_id}", summary="Read an API key")
async def read_api_key(caller: KeyKeeper, session: TenantSession, keys: Service, key_id: str) -> ApiKeyView:
    """One key, without the key itself."""
    key = await keys.get(session, caller.tenant_id, parse_id(IdKind.API_KEY, key_id))
    return ApiKeyView.of(key, keys.now())


@router.patch("/{key_id}", summary="Change an API key")
async def change_api_key(
    caller: KeyKeeper, actor: CurrentActor, session: TenantSession, keys: Service, key_id: str, change: ApiKeyChange
) -> ApiKeyView:
    """Name, limit, and scopes, which can only become fewer."""
    key = await keys.change(
        session,
        tenant_id=caller.tenant_id,
        key_id=parse_id(IdKind.API_KEY, key_id),
        actor=actor,
        change=change,
    )
    return ApiKeyView.of(key, keys.now())


@router.post("/{key_id}/rotate", status_code=status.HTTP_201_CREATED, summary="Rotate an API key")
async def rotate_api_key(
    caller: KeyKeeper,
    actor: CurrentActor,
    session: TenantSession,
    keys: Service,
    key_id: str,
    rotation: Rotation | None = None,
) -> RotatedApiKey:
    """A successor, shown this once; the old key works on for the grace period."""
    old, successor, text = await keys.rotate(
        session,
        tenant_id=caller.tenant_id,
        key_id=parse_id(IdKind.API_KEY, key_id),
        actor=actor,
        granted=caller.permissions,
        grace=timedelta(seconds=(rotation or Rotation()).grace_period_s),
    )
    return RotatedApiKey.succeeding(old, successor, text, keys.now())


@router.delete("/{key_id}", summary="Revoke an API key")
async def revoke_api_key(
    caller: KeyKeeper,
    actor: CurrentActor,
    session: TenantSession,
    keys: Service,
    key_id: str,
    reason: Annotated[Reason, Query(description="Why, for the audit log.")],
) -> ApiKeyView:
    """At once and for good."""
    key = await keys.revoke(
        session, tenant_id=caller.tenant_id, key_id=parse_id(IdKind.API_KEY, key_id), actor=actor, reason=reason
    )
    return ApiKeyView.of(key, keys.now())
