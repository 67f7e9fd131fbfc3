import gc
import weakref
from collections.abc import Iterator

import pytest

from crossdock.cli.garbage import collect_seldom


class Knot:
    """Refers to itself, so that only a collection ends it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _collecting_as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_garbage_is_still_collected_while_what_was_there_at_the_start_is_left_alone() -> None:
    collect_seldom()
    assert gc.get_freeze_count() > 1_000
    ended = weakref.ref(Knot())
    kept: list[list[int]] = []
    while ended() is not None:
        kept.append([len(kept)])
        assert len(kept) < 1_000_000
