"""`/api/v1/operator/tenants`: for the operator of the installation, with the operator key."""

from typing import Annotated

from fastapi import APIRouter, Response, status

from crossdock.features.identity.tenants.schemas import CreatedTenant, NewTenant, TenantChange, TenantView
from crossdock.features.identity.tenants.service import TenantService
from crossdock.http.access import Operator, OwnerSession
from crossdock.http.pagination import Page, Paging, cut
from crossdock.http.provided import Provided
from crossdock.kit.ids import IdKind, parse_id

router = APIRouter(prefix="/api/v1/operator/tenants", tags=["Operator"])

Service = Annotated[TenantService, Provided(TenantService)]


@router.post("", status_code=status.HTTP_201_CREATED, summary="Create an organization")
async def create_tenant(
    operator: Operator, session: OwnerSession, tenants: Service, wanted: NewTenant, response: Response
) -> CreatedTenant:
    """With an owner's address: his password and a first key are in the answer this once."""
    response.headers["Cache-Control"] = "no-store"
    return CreatedTenant.made(await tenants.create(session, actor=operator, wanted=wanted))


@router.get("", summary="List organizations")
async def list_tenants(_: Operator, session: OwnerSession, tenants: Service, page: Paging) -> Page[TenantView]:
    """Newest first."""
    rows, next_cursor = cut(await tenants.on_page(session, page), page, lambda tenant: tenant.tenant_id)
    return Page(items=[TenantView.of(tenant) for tenant in rows], next_cursor=next_cursor)


@router.get("/{tenant_id}", summary="Read an organization")
async def read_tenant(_: Operator, session: OwnerSession, tenants: Service, tenant_id: str) -> TenantView:
    """One organization."""
    return TenantView.of(await tenants.get(session, parse_id(IdKind.TENANT, tenant_id)))


@router.patch("/{tenant_id}", summary="Rename, suspend or activate an organization")
async def change_tenant(
    operator: Operator, session: OwnerSession, tenants: Service, tenant_id: str, change: TenantChange
) -> TenantView:
    """A suspended one's requests are refused at once; what it has stored stays."""
    tenant = await tenants.get(session, parse_id(IdKind.TENANT, tenant_id))
    return TenantView.of(await tenants.change(session, tenant=tenant, actor=operator, change=change))
