"""Cursor pages: newest first by id, stable while rows are added, since a page starts after a row, not at a count."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from fastapi import Depends, Query
from pydantic import BaseModel, Field
from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute

from crossdock.http.errors import MalformedRequestError

DEFAULT_LIMIT = 50
MAX_LIMIT = 200

# Longer than any cursor of ours; a longer text is not one.
_CURSOR_CHARACTERS = 1000

ItemT = TypeVar("ItemT")
RowT = TypeVar("RowT")
QueryT = TypeVar("QueryT", bound=Select[Any])


class Page(BaseModel, Generic[ItemT]):
    """A part of a list; ask again with `cursor` set to `next_cursor` for what follows."""

    items: list[ItemT]
    next_cursor: str | None = Field(default=None, description="None on the last page.")


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which part of a list is wanted: `limit` items after the row that `after` names."""

    limit: int = DEFAULT_LIMIT
    after: tuple[str, ...] | None = None

    def after_id(self) -> UUID | None:
        """The id to go on from, in lists ordered by id."""
        if self.after is None:
            return None
        try:
            (text,) = self.after
            return UUID(hex=text)
        except ValueError:
            raise invalid_cursor() from None

    def after_names(self, count: int) -> tuple[str, ...] | None:
        """The `count` names to go on from, in lists ordered by name."""
        if self.after is not None and len(self.after) != count:
            raise invalid_cursor()
        return self.after


async def _page_request(
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Items on a page.")] = DEFAULT_LIMIT,
    cursor: Annotated[
        str | None, Query(max_length=_CURSOR_CHARACTERS, description="`next_cursor` of the page before.")
    ] = None,
) -> PageRequest:
    return PageRequest(limit=limit, after=None if cursor is None else decode_cursor(cursor))


Paging = Annotated[PageRequest, Depends(_page_request)]


def newest_first(query: QueryT, column: InstrumentedAttribute[UUID], page: PageRequest) -> QueryT:
    """The query for one page ordered by `column` downwards, with one row more to see whether another page follows."""
    after = page.after_id()
    if after is not None:
        query = query.where(column < after)
    return query.order_by(column.desc()).limit(page.limit + 1)


def cut(
    rows: Sequence[RowT], page: PageRequest, key: Callable[[RowT], UUID | tuple[str, ...]]
) -> tuple[list[RowT], str | None]:
    """The page's rows and the cursor of the next; `rows` holds one more than the limit if there is a next."""
    kept = list(rows[: page.limit])
    if len(rows) <= page.limit:
        return kept, None
    last = key(kept[-1])
    return kept, encode_cursor((last.hex,) if isinstance(last, UUID) else last)


def encode_cursor(parts: tuple[str, ...]) -> str:
    """An opaque cursor that names a row."""
    return urlsafe_b64encode(json.dumps(parts, separators=(",", ":")).encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[str, ...]:
    """The row that a cursor names; raises MalformedRequestError for text that is no cursor of ours."""
    try:
        parts = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError):
        raise invalid_cursor() from None
    if not isinstance(parts, list) or not parts or not all(isinstance(part, str) for part in parts):
        raise invalid_cursor()
    return tuple(parts)


def invalid_cursor() -> MalformedRequestError:
    """The error for a cursor that this list never gave."""
    detail = "This is no cursor of this list; send next_cursor as it came, or leave it out for the first page."
    return MalformedRequestError(detail, errors=({"in": "query", "name": "cursor", "detail": detail},))
