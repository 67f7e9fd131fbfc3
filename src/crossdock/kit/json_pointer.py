"""JSON Pointers (RFC 6901), by which errors say where in a document something is wrong."""

from collections.abc import Iterable


def pointer_to(steps: Iterable[object]) -> str:
    """The pointer to what these names and positions lead to: `/items/0/a~1b`; empty for the whole document."""
    return "".join(["/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps])
