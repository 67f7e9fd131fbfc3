"""File locks that the kernel frees when their holder dies, whatever kills it (flock(2))."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from crossdock.db.embedded.errors import DataFolderError, EmbeddedStartError

# What is waited for here is another process of this machine, so the machine's own clock is the right one.
_POLL_S = 0.01


def wait_for(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether the condition came true within the time."""
    deadline = monotonic() + timeout_s
    while not condition():
        if monotonic() >= deadline:
            return False
        sleep(_POLL_S)
    return True


def try_lock(path: Path, *, shared: bool = False) -> int | None:
    """Lock the file, made if need be; the open descriptor holds the lock. None when another holds it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DataFolderError(
            f"Cannot write {path}: {error.strerror}. Mend that, run Crossdock as the account that owns it, "
            "or set CROSSDOCK_DATA_DIR to a folder of your own."
        ) from error
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        os.close(descriptor)
        raise DataFolderError(
            f"The file system of {path} has no file locks ({error.strerror}). "
            "Set CROSSDOCK_DATA_DIR to a folder on a local disk."
        ) from error
    return descriptor


@contextmanager
def locked(path: Path, *, timeout_s: float) -> Iterator[int]:
    """Hold the lock alone; gives its descriptor, for children that must keep it while they live."""
    held: list[int] = []

    def taken() -> bool:
        descriptor = try_lock(path)
        if descriptor is not None:
            held.append(descriptor)
        return descriptor is not None

    if not wait_for(taken, timeout_s):
        raise EmbeddedStartError(
            f"Another process has been starting or stopping this database for {timeout_s:.0f} s "
            f"(it holds {path}). Wait for it or end it, then try again."
        )
    try:
        yield held[0]
    finally:
        os.close(held[0])
