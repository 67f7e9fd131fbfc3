import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest

from crossdock.db.engine import Database
from crossdock.db.migrate import upgrade

SERVER = "postgresql://crossdock:x@127.0.0.1:5599"


@pytest.fixture
async def dsn() -> AsyncIterator[str]:
    name = f"h5_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(f"{SERVER}/crossdock")
    await admin.execute(f"CREATE DATABASE {name}")
    await upgrade(f"{SERVER}/{name}")
    yield f"{SERVER}/{name}"
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    opened = Database(dsn)
    await opened.open()
    yield opened
    await opened.close()
