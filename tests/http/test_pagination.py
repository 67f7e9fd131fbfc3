from uuid import UUID

import pytest

from crossdock.http.errors import MalformedRequestError
from crossdock.http.pagination import PageRequest, cut, decode_cursor, encode_cursor
from crossdock.kit.ids import new_uuid


def test_the_last_page_has_no_cursor() -> None:
    rows = [new_uuid() for _ in range(3)]
    assert cut(rows, PageRequest(limit=3), lambda row: row) == (rows, None)


def test_a_full_page_tells_where_the_next_begins() -> None:
    rows = [new_uuid() for _ in range(4)]
    kept, cursor = cut(rows, PageRequest(limit=3), lambda row: row)
    assert kept == rows[:3]
    assert cursor is not None
    assert PageRequest(after=decode_cursor(cursor)).after_id() == rows[2]


def test_a_cursor_carries_names_as_they_are() -> None:
    names = ("Größe", 'a"b\\c')
    assert PageRequest(after=decode_cursor(encode_cursor(names))).after_names(2) == names


@pytest.mark.parametrize("cursor", ["", "====", "x", "bnVsbA", "W10", "WzFd", "eyJhIjoxfQ", "ä", "[" * 900])
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(MalformedRequestError):
        decode_cursor(cursor)


def test_a_cursor_of_another_list_is_refused() -> None:
    with pytest.raises(MalformedRequestError):
        PageRequest(after=("not an id",)).after_id()
    with pytest.raises(MalformedRequestError):
        PageRequest(after=(UUID(int=1).hex,)).after_names(2)
