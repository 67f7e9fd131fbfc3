"""Says what nothing uses, and what only its tests use: `python -m tests.dead_code`.

The package is searched by itself first, so that a test does not keep dead code alive.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from vulture import Vulture
from vulture.core import Item

from crossdock.cli import main as root
from crossdock.cli import webhook

# Called by those who read the decorator.
_DECORATORS = [
    "@router.*",
    "@*.command",
    "@*.callback",
    "@field_validator",
    "@field_serializer",
    "@model_validator",
    "@pytest.fixture",
]

# What is used where vulture cannot see it, with who uses it.
_USED = {
    "revision": "Alembic",
    "down_revision": "Alembic",
    "visit_comparator": "jmespath's visitor",
    "notify": "PgQueuer's driver protocol",
    "tm": "PgQueuer's driver protocol",
    "periodic_flush": "PgQueuer's buffers",
    "flush_items": "PgQueuer's buffers",
    "local_limiter": "those who use the gateway alone",
    "LocalBreaker": "those who use the gateway alone",
    "FixedClock": "tests, here and of those who build on Crossdock",
    "advance": "tests, as FixedClock",
    "Trace": "a quoted annotation",
    "get_reset_query": "asyncpg",
    "pytestmark": "pytest",
    "connection_lost": "asyncio's protocols",
    "eof_received": "asyncio's protocols",
    "on_body": "httptools",
    "pause_writing": "asyncio's protocols",
    "resume_writing": "asyncio's protocols",
    "settings_customise_sources": "pydantic's settings",
    "bearer": "those who use the gateway by itself",
    "on_message_complete": "httptools",
    "do_GET": "http.server",
    "do_POST": "http.server",
    "log_message": "http.server",
    "getall": "the vendor's validator",
    "pytest_asyncio_loop_factories": "pytest-asyncio",
    "pytest_configure": "pytest",
    "pytest_collection_modifyitems": "pytest",
    **{
        place.partition(":")[2]: "the command line, which imports it when it is called"
        for place, _ in (root.COMMANDS | webhook.COMMANDS).values()
    },
}


def unused(paths: Sequence[str]) -> Iterator[Item]:
    """What nothing in these paths uses."""
    search = Vulture(ignore_names=list(_USED), ignore_decorators=_DECORATORS)
    search.scavenge(paths)
    for item in search.get_unused_code(min_confidence=60):
        # Fields and members are read by name, by whom only the library knows; locals are the linter's.
        is_field = item.typ == "attribute" or (item.typ == "variable" and _is_indented(item))
        is_table = item.typ == "class" and item.filename.name == "models.py"
        if not is_field and not is_table:
            yield item


def _is_indented(item: Item) -> bool:
    line: str = item.filename.read_text(encoding="utf-8").splitlines()[item.first_lineno - 1]
    return line[:1].isspace()


def main() -> int:
    """The exit code: 1 when something is unused."""
    found = [
        *unused(["src"]),
        *(
            item
            for item in unused(["src", "tests", "bench"])
            if not item.filename.is_relative_to(Path("src").resolve())
        ),
    ]
    for item in found:
        print(item.get_report())  # noqa: T201 - this is a command
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
