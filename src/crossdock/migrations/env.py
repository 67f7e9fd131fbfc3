"""How Alembic reaches our database and models; `crossdock.db.migrate` calls it."""

import asyncio
from typing import Any

from alembic import context
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from crossdock.db.base import Base
from crossdock.db.urls import sqlalchemy_url
from crossdock.migrations.tables import import_models

# A migration that cannot get its lock soon would queue every request behind itself.
_LOCK_TIMEOUT = "5s"

import_models()


def _is_ours(_item: Any, name: str | None, kind: str, _reflected: bool, _compared: Any) -> bool:  # noqa: ANN401, FBT001 - Alembic's signature
    """Leave out what the models do not describe: day partitions and PgQueuer's own tables."""
    if name is None:
        return True
    return not (kind == "table" and ("_p2" in name or name.startswith("pgqueuer")))


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_object=_is_ours,
        compare_server_default=False,
        transaction_per_migration=True,
    )
    connection.exec_driver_sql(f"SET lock_timeout = '{_LOCK_TIMEOUT}'")
    connection.commit()
    with context.begin_transaction():
        context.run_migrations()


async def _connect_and_run(dsn: str) -> None:
    engine = create_async_engine(sqlalchemy_url(dsn))
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_run)
    finally:
        await engine.dispose()


_connection = context.config.attributes.get("connection")
if _connection is not None:
    _run(_connection)
else:
    asyncio.run(_connect_and_run(context.config.attributes["dsn"]))
