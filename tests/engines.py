"""What drivers work out anew for each engine and each connection, worked out once for all databases of a run.

Every test has engines and connections of its own; without this, compiling the same statements again is half of what
it computes, and asking what the same types are is most of what its database does.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Self

import asyncpg
import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.util import LRUCache

from tests.postgres import is_copy

_MOST_STATEMENTS = 5000
# Stands for the statement that would have asked: it has taken nobody's place.
_NOTHING_RUN = SimpleNamespace(name="none")


class _OneDialect(PGDialect_asyncpg):
    """One for all engines of this process: all its databases are of the same version, encoding and settings."""

    supports_statement_cache = True
    _the_one: Self | None = None
    _is_made = False
    _knows_the_server = False

    def __new__(cls, **_options: Any) -> Self:
        cls._the_one = cls._the_one or super().__new__(cls)
        return cls._the_one

    def __init__(self, **options: Any) -> None:
        if not self._is_made:
            self._is_made = True
            super().__init__(**options)  # type: ignore[no-untyped-call]

    def initialize(self, connection: Connection) -> None:
        if not self._knows_the_server:
            super().initialize(connection)  # type: ignore[no-untyped-call]
            self._knows_the_server = True


@contextmanager
def prepared_engines() -> Iterator[None]:
    """Engines made in this block share what they know."""
    introspect = asyncpg.Connection._introspect_type  # type: ignore[attr-defined]
    built_in: dict[str, Any] = {}

    async def introspect_once(connection: Any, typename: str, schema: str) -> Any:
        """SQLAlchemy asks for json and jsonb on each connection; their numbers are PostgreSQL's own."""
        if schema != "pg_catalog":
            return await introspect(connection, typename, schema)
        if typename not in built_in:
            built_in[typename] = await introspect(connection, typename, schema)
        return built_in[typename]

    ask = asyncpg.Connection._introspect_types  # type: ignore[attr-defined]
    ours: dict[tuple[Any, frozenset[int]], Any] = {}

    async def ask_once(connection: Any, numbers: set[int], *options: Any) -> tuple[Any, Any]:
        """A server numbers types across all its databases; those of a template have the same numbers in its copies."""
        if not is_copy(connection._params.database):
            return await ask(connection, numbers, *options)  # type: ignore[no-any-return]
        asked = (connection._addr, frozenset(numbers))
        if asked in ours:
            return ours[asked], _NOTHING_RUN
        ours[asked], statement = await ask(connection, numbers, *options)
        return ours[asked], statement

    def keep(engine: Engine) -> None:
        engine._compiled_cache = compiled

    compiled: LRUCache[Any, Any] = LRUCache(_MOST_STATEMENTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_OneDialect, "engine_created", keep)  # SQLAlchemy calls it with every engine made
        patch.setitem(registry.impls, "postgresql.asyncpg", lambda: _OneDialect)
        patch.setattr(asyncpg.Connection, "_introspect_type", introspect_once)
        patch.setattr(asyncpg.Connection, "_introspect_types", ask_once)
        yield
