"""Every column that holds sealed secrets is known to the rotation, and can be reached by it."""

import importlib
import pkgutil

import crossdock
from crossdock.bootstrap import SEALED_COLUMNS
from crossdock.features.vault.sealed_columns import SealedColumn
from tests.hub import query


def described() -> set[SealedColumn]:
    """Those that any module of ours describes."""
    found = set()
    for module in pkgutil.walk_packages(crossdock.__path__, "crossdock."):
        if module.name.startswith("crossdock.features."):
            members = vars(importlib.import_module(module.name)).values()
            found |= {member for member in members if isinstance(member, SealedColumn)}
    return found


def test_none_is_left_out_of_the_rotation() -> None:
    assert described() == set(SEALED_COLUMNS)
    assert len({column.use for column in SEALED_COLUMNS}) == len(SEALED_COLUMNS)
    assert not any(":" in column.use for column in SEALED_COLUMNS)


async def test_workers_may_read_them_and_the_app_may_change_them(database_url: str) -> None:
    for column in SEALED_COLUMNS:
        reminds = column.reminds.id_column if column.reminds else None
        for name in {column.column, "id", column.made_at, reminds} - {None}:
            (row,) = await query(
                database_url,
                "SELECT has_column_privilege('crossdock_worker', $1, $2, 'SELECT') "
                "AND has_column_privilege('crossdock_app', $1, $2, 'SELECT') AS readable, "
                "has_column_privilege('crossdock_app', $1, $3, 'UPDATE') AS changeable",
                column.table,
                name,
                column.column,
            )
            assert (row["readable"], row["changeable"]) == (True, True), (column, name)
