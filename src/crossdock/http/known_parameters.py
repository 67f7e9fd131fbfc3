"""A query parameter that an operation does not have is an error: a filter that was misspelt would find everything."""

from collections.abc import Set as AbstractSet
from functools import lru_cache

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query

from crossdock.http.errors import UnknownParameterError

_SHOWN_CHARACTERS = 80
# More than there are operations.
_MOST_KEPT = 1000


async def _refuse_unknown(request: Request) -> None:
    if not request.scope["query_string"]:
        return
    route = request.scope["route"]
    if not route.include_in_schema:  # a browser brings there what a provider says
        return
    known = _parameters(_Operation(route.dependant))
    for name in request.query_params:
        if name not in known:
            raise UnknownParameterError(name[:_SHOWN_CHARACTERS], known=sorted(known))


class _Operation:
    """A dependant, told apart by which one it is."""

    __slots__ = ("dependant",)

    def __init__(self, dependant: Dependant) -> None:
        self.dependant = dependant

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Operation) and other.dependant is self.dependant

    def __hash__(self) -> int:
        return id(self.dependant)


@lru_cache(_MOST_KEPT)
def _parameters(operation: _Operation) -> AbstractSet[str]:
    fields = get_flat_params(operation.dependant)
    return {field.alias for field in fields if isinstance(field.field_info, Query)}


KnownParameters = Depends(_refuse_unknown)
