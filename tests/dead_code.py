"""Says what nothing uses, and what only its tests use: `python -m tests.dead_code`.

The package is searched by itself first, so that a test does not keep dead code alive.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from vulture import Vulture
from vulture.core import Item

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

# What vulture cannot see being used, with who uses it.
_USED = {
    "model_config": "pydantic",
    "type_annotation_map": "SQLAlchemy",
    "revision": "Alembic",
    "down_revision": "Alembic",
    "group": "subprocess.Popen",
    "extra_groups": "subprocess.Popen",
    "visit_comparator": "jmespath's visitor",
    "notify": "PgQueuer's driver protocol",
    "tm": "PgQueuer's driver protocol",
    "traceback_record": "PgQueuer's repository protocol",
    "FixedClock": "tests, here and of those who build on Crossdock",
    "advance": "tests, as FixedClock",
    "pytest_asyncio_loop_factories": "pytest-asyncio",
}

# Fields that SQLAlchemy and pydantic read by name.
_FIELD_FILES = frozenset({"models.py", "schemas.py"})


def unused(paths: Sequence[str]) -> Iterator[Item]:
    """What nothing in these paths uses."""
    search = Vulture(ignore_names=list(_USED), ignore_decorators=_DECORATORS)
    search.scavenge(paths)
    for item in search.get_unused_code(min_confidence=60):
        is_field = item.typ == "variable" and item.filename.name in _FIELD_FILES
        if item.typ != "attribute" and not is_field:
            yield item


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
