import pytest

from crossdock.mapping.json_values import MAX_DEPTH, NotJsonError, plain_copy


def test_a_copy_is_equal_and_separate() -> None:
    source = {"a": [1, 2.5, True, None, "é"], "b": {}}
    copy = plain_copy(source)
    assert copy == source
    assert copy is not source


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": [1, float("nan")]}, "/a/1"),
        ({"a/b": {"c~d": {1}}}, "/a~1b/c~0d"),
        ([{"x": b"bytes"}], "/0/x"),
        ({"a": {1: 2}}, "/a"),
        (object(), ""),
    ],
)
def test_what_is_not_json_is_named_with_its_place(value: object, path: str) -> None:
    with pytest.raises(NotJsonError) as caught:
        plain_copy(value)
    assert caught.value.path == path


def test_depth_and_size_are_bounded() -> None:
    deep: list[object] = []
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]
    with pytest.raises(NotJsonError, match="nested deeper"):
        plain_copy(deep)
    with pytest.raises(NotJsonError, match="too large"):
        plain_copy(["x" * 50] * 50, max_size=1000)
