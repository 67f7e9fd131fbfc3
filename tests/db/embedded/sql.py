"""One statement on a database, over a connection of its own."""

from typing import Any

import asyncpg


async def query(dsn: str, statement: str) -> Any:
    """The first column of the first row."""
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()
