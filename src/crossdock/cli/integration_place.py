"""Which integration a command means."""

from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy.ext.asyncio import AsyncSession

from crossdock.bootstrap import Services
from crossdock.features.integrations.listing import Wanted
from crossdock.http.pagination import MAX_LIMIT, PageRequest
from crossdock.kit.errors import ConflictError, NotFoundError
from crossdock.kit.ids import IdKind, parse_id

IntegrationId = Annotated[str, typer.Argument(metavar="INTEGRATION", help="Its id, such as int_0192…, or its name.")]


async def key_of(services: Services, session: AsyncSession, given: str) -> UUID:
    """The id as given, or that of the one integration with this name."""
    if given.startswith(f"{IdKind.INTEGRATION.value}_"):
        return parse_id(IdKind.INTEGRATION, given)
    found = await services.integrations.service.list(session, PageRequest(limit=MAX_LIMIT), Wanted(text=given))
    ids = [one.id for one in found if one.name == given]
    if not ids:
        raise NotFoundError(f"No integration is called {given!r}; `crossdock integration list` has all.")
    if len(ids) > 1:
        raise ConflictError(f"{len(ids)} integrations are called {given!r}; give the id: {', '.join(ids)}.")
    return parse_id(IdKind.INTEGRATION, ids[0])
