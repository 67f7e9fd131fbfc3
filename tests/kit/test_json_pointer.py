"""JSON Pointers: the examples of RFC 6901, section 5, and a position."""

import pytest

from crossdock.kit.json_pointer import pointer_to


@pytest.mark.parametrize(
    ("steps", "pointer"),
    [
        ([], ""),
        (["foo", 0], "/foo/0"),
        ([""], "/"),
        (["a/b"], "/a~1b"),
        (["m~n"], "/m~0n"),
        (["~1"], "/~01"),
    ],
)
def test_a_pointer_leads_to_its_steps_whatever_they_are_called(steps: list[str | int], pointer: str) -> None:
    assert pointer_to(steps) == pointer
