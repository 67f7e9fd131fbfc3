"""Writing what a webhook brought to a file, or to standard output."""

import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


async def write_out(chunks: AsyncIterator[bytes], out: Path | None) -> None:
    """Write the chunks to a file that its owner alone can read, or to standard output for None."""
    with _target(out) as stream:
        async for chunk in chunks:
            stream.write(chunk)


@contextmanager
def _target(out: Path | None) -> Iterator[IO[bytes]]:
    if out is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as stream:  # noqa: PTH123 - a descriptor, not a path
        yield stream
