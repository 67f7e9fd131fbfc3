"""Where large webhook bodies are kept: on disk or in object storage, under keys that begin with their day.

A file is written once, whole, and never changed. It is durable when `put` returns.
"""

import re
from collections.abc import AsyncIterator
from datetime import date
from typing import Protocol
from uuid import UUID

from crossdock.kit.errors import NotFoundError, UnavailableError
from crossdock.kit.ids import uuid_time

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_KEY = re.compile(rf"{_DAY.pattern}/[0-9a-f]{{32}}/[0-9a-f]{{32}}")


class FileStoreError(UnavailableError):
    """The file store cannot be reached or written to right now; nothing was stored. Try again."""

    code = "file_store_unavailable"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message, retry_after_s=5)


class StoredFileNotFoundError(NotFoundError):
    """The file store does not have this body; it was removed there, or a restored database is without its files."""

    code = "stored_file_not_found"


class FileStore(Protocol):
    """Keeps files; each method raises FileStoreError when the store cannot be reached."""

    async def put(self, key: str, content: bytes) -> None:
        """Store a file; durable when this returns. Storing it again is harmless."""
        ...

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The file's bytes, or `length` of them from `offset` on, in chunks; raises StoredFileNotFoundError."""
        ...

    async def delete(self, key: str) -> None:
        """Remove a file, if it is there."""
        ...

    async def delete_before(self, day: date, *, limit: int) -> int:
        """Remove up to `limit` files of earlier days, the oldest first; how many were removed."""
        ...

    async def aclose(self) -> None:
        """Give back what the store holds open."""
        ...


def file_key(tenant_id: UUID, file_id: UUID) -> str:
    """Where a file of this id (UUIDv7, whose time says the day) is kept."""
    return f"{uuid_time(file_id).date().isoformat()}/{tenant_id.hex}/{file_id.hex}"


def checked(key: str) -> str:
    """The key; raises ValueError for one that `file_key` cannot have made, such as one that leads elsewhere."""
    if not is_key(key):
        raise ValueError(f"{key[:80]!r} is not the key of a stored file")
    return key


def is_key(text: str) -> bool:
    """Whether a file of ours could be kept there; what else is in the same place is none of our business."""
    return _KEY.fullmatch(text) is not None


def is_day(text: str) -> bool:
    """Whether files of a day could be kept there."""
    return _DAY.fullmatch(text) is not None
