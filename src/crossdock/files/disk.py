"""Files in a folder of this machine, or of one that all processes share."""

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path

from crossdock.files.store import FileStoreError, StoredFileNotFoundError, checked, is_day

_CHUNK_BYTES = 256 * 1024
_OURS_ALONE = 0o700


class DiskFiles:
    """A file store in `folder`, which is made on first use; readable by the owner alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, key: str, content: bytes) -> None:
        """Store a file; on the disk, with its name, when this returns."""
        try:
            await asyncio.to_thread(self._write, checked(key), content)
        except OSError as error:
            raise FileStoreError(f"A file cannot be written to {self._folder}: {error.strerror}.") from error

    async def read(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The file's bytes, or `length` of them from `offset` on, in chunks."""
        left = length
        try:
            # Opened once: what is removed meanwhile can be read to its end.
            stream = await asyncio.to_thread((self._folder / checked(key)).open, "rb")
            try:
                stream.seek(offset)
                while left is None or left > 0:
                    chunk = await asyncio.to_thread(
                        stream.read, _CHUNK_BYTES if left is None else min(left, _CHUNK_BYTES)
                    )
                    if not chunk:
                        break
                    left = None if left is None else left - len(chunk)
                    yield chunk
            finally:
                stream.close()
        except FileNotFoundError:
            raise StoredFileNotFoundError from None
        except OSError as error:
            raise FileStoreError(f"A file cannot be read from {self._folder}: {error.strerror}.") from error

    async def delete(self, key: str) -> None:
        """Remove a file, if it is there."""
        try:
            await asyncio.to_thread((self._folder / checked(key)).unlink, missing_ok=True)
        except OSError as error:
            raise FileStoreError(f"A file cannot be removed from {self._folder}: {error.strerror}.") from error

    async def delete_before(self, day: date, *, limit: int) -> int:
        """Remove up to `limit` files of earlier days, the oldest first; how many were removed."""
        try:
            return await asyncio.to_thread(self._remove_before, day, limit)
        except OSError as error:
            raise FileStoreError(f"Old files cannot be removed from {self._folder}: {error.strerror}.") from error

    async def aclose(self) -> None:
        """Nothing is held open."""

    def _write(self, key: str, content: bytes) -> None:
        target = self._folder / key
        self._make_folder(target.parent)
        unfinished = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:  # noqa: PTH123 - a descriptor
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            unfinished.replace(target)
            _sync_folder(target.parent)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise

    def _make_folder(self, folder: Path) -> None:
        """Make it and those above it, each durably."""
        if folder.is_dir():
            return
        if not folder.parent.is_dir():
            self._make_folder(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir(_OURS_ALONE)
        _sync_folder(folder.parent)

    def _remove_before(self, day: date, limit: int) -> int:
        removed = 0
        for folder in self._days_before(day):
            for path in _files_below(folder):
                if removed == limit:
                    return removed
                path.unlink(missing_ok=True)
                removed += 1
            # Empty by now, and nothing is added to a day that is over for so long.
            shutil.rmtree(folder, ignore_errors=True)
        return removed

    def _days_before(self, day: date) -> list[Path]:
        if not self._folder.is_dir():
            return []
        days = (folder for folder in self._folder.iterdir() if folder.is_dir() and is_day(folder.name))
        return sorted(folder for folder in days if folder.name < day.isoformat())


def _files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if not path.is_dir())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
