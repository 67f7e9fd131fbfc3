"""How an endpoint gets the services it calls, without knowing who built them.

Dependencies here and elsewhere are `async` also where they await nothing: FastAPI runs the others in a
thread, each by itself, which takes longer than they do.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from fastapi import Depends, Request
from starlette.types import Scope

T = TypeVar("T")

_PROVIDED_KEY = "crossdock.provided"


def provide(scope: Scope, services: Mapping[type, object]) -> None:
    """Let the endpoint that serves this request ask for these services by type."""
    scope[_PROVIDED_KEY] = services


def Provided(kind: type[T]) -> Any:  # noqa: ANN401, N802 - used and typed like FastAPI's own Depends
    """The application's instance of `kind`, as a dependency for `Annotated`."""

    async def instance(request: Request) -> T:
        found: T = provided(request, kind)
        return found

    return Depends(instance)


def provided(request: Request, kind: type[T]) -> T:
    """The application's instance of `kind`."""
    try:
        found: T = request.scope[_PROVIDED_KEY][kind]
    except KeyError:
        raise LookupError(
            f"create_app was given no {kind.__name__}; register it in bootstrap.Services.provided"
        ) from None
    return found
