"""`/api/v1/secret-stores`: outside stores that integrations' secrets may lie in."""

from typing import Annotated

from fastapi import APIRouter, Body, status

from crossdock.features.vault.stores.schemas import StoreCheck, StoreCheckIn, StoreIn, StoreOut, StorePatch
from crossdock.features.vault.stores.service import StoreService
from crossdock.http.access import CurrentActor, Principal, Requires, TenantSession
from crossdock.http.pagination import Page, Paging, cut
from crossdock.http.provided import Provided
from crossdock.kit.ids import IdKind, parse_id
from crossdock.kit.permissions import Permission

router = APIRouter(prefix="/api/v1/secret-stores", tags=["Secret stores"])

Reader = Annotated[Principal, Requires(Permission.INTEGRATION_READ)]
Admin = Annotated[Principal, Requires(Permission.INTEGRATION_ADMIN)]
Stores = Annotated[StoreService, Provided(StoreService)]


@router.get("", summary="List secret stores")
async def list_secret_stores(_: Reader, session: TenantSession, stores: Stores, page: Paging) -> Page[StoreOut]:
    """The outside secret stores, newest first; never what signs in there."""
    kept, next_cursor = cut(await stores.on_page(session, page), page, lambda store: store.id)
    return Page(items=[StoreOut.of(store) for store in kept], next_cursor=next_cursor)


@router.post("", status_code=status.HTTP_201_CREATED, summary="Add a secret store")
async def create_secret_store(
    admin: Admin, actor: CurrentActor, stores: Stores, given: Annotated[StoreIn, Body()]
) -> StoreOut:
    """Its credentials are sealed and never shown again."""
    return await stores.create(admin.tenant_id, actor, given)


@router.get("/{store_id}", summary="Read a secret store")
async def read_secret_store(_: Reader, session: TenantSession, stores: Stores, store_id: str) -> StoreOut:
    """One store."""
    return await stores.read(session, parse_id(IdKind.SECRET_STORE, store_id))


@router.patch("/{store_id}", summary="Change a secret store")
async def change_secret_store(
    admin: Admin, actor: CurrentActor, stores: Stores, store_id: str, changes: StorePatch
) -> StoreOut:
    """What is left out stays; settings that lead elsewhere need the credentials again."""
    return await stores.patch(admin.tenant_id, actor, parse_id(IdKind.SECRET_STORE, store_id), changes)


@router.delete("/{store_id}", status_code=status.HTTP_204_NO_CONTENT, summary="Remove a secret store")
async def delete_secret_store(admin: Admin, actor: CurrentActor, stores: Stores, store_id: str) -> None:
    """What refers to it stops working within five minutes."""
    await stores.delete(admin.tenant_id, actor, parse_id(IdKind.SECRET_STORE, store_id))


@router.post("/{store_id}/check", summary="Check a secret store")
async def check_secret_store(admin: Admin, stores: Stores, store_id: str, wanted: StoreCheckIn) -> StoreCheck:
    """Whether it lets us in and, with a path, whether that secret can be read; its value is not shown."""
    return await stores.check(admin.tenant_id, parse_id(IdKind.SECRET_STORE, store_id), wanted)
