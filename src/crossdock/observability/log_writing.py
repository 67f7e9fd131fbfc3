"""Writing lines to a pipe or socket whose reader may stop reading: nobody waits for it but a thread of its own."""

import atexit
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

# What waits for its reader in memory at most; beyond it lines are dropped, and counted.
_MOST_BYTES = 4 * 1024 * 1024
# What one write puts there at once: processes that share a pipe must not write into the middle of each other's lines.
_AT_ONCE_BYTES = select.PIPE_BUF
# A reader that does not read would hold up the end of the process for good.
_LAST_WORDS_WITHIN_S = 1


class PatientWriter:
    """A file to write text to that never blocks; `dropped` is told, by and by, of how many lines found no room.

    At the end of the process what was written last is waited for, for a second.
    """

    def __init__(self, descriptor: int, *, dropped: Callable[[int], None]) -> None:
        self._descriptor = descriptor
        self._tell_dropped = dropped
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._dropped = 0
        self._idle = True
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def write(self, text: str) -> None:
        """Have it written, after all that was written before; whole lines, and none in parts."""
        lines = text.encode(errors="backslashreplace")
        with self._changed:
            # What tells of dropped lines comes from the thread itself, and must not be dropped.
            if self._bytes + len(lines) > _MOST_BYTES and threading.current_thread() is not self._thread:
                self._dropped += 1
                return
            self._waiting.append(lines)
            self._bytes += len(lines)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
                self._thread.start()
                atexit.register(self.close)
            if self._idle:
                self._idle = False
                self._changed.notify_all()

    def flush(self) -> None:
        """Nothing: it is written as soon as it can be."""

    def close(self) -> None:
        """Wait until all is written, for a second at most."""
        with self._changed:
            self._changed.wait_for(lambda: self._idle, _LAST_WORDS_WITHIN_S)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._idle = True
                    self._changed.notify_all()
                    self._changed.wait()
                lines = self._next()
            self._write(lines)
            with self._changed:
                self._bytes -= len(lines)
                dropped, self._dropped = self._dropped, 0
            if dropped:
                self._tell_dropped(dropped)

    def _next(self) -> bytes:
        """As many lines as are written at once; one alone may be longer."""
        taken = [self._waiting.popleft()]
        size = len(taken[0])
        while self._waiting and (size := size + len(self._waiting[0])) <= _AT_ONCE_BYTES:
            taken.append(self._waiting.popleft())
        return b"".join(taken)

    def _write(self, content: bytes) -> None:
        left = memoryview(content)
        with suppress(OSError):  # nobody is there to take it
            while left:
                try:
                    left = left[os.write(self._descriptor, left) :]
                except BlockingIOError:  # somebody it is shared with had it not wait
                    self._wait_for_room()

    def _wait_for_room(self) -> None:
        room = select.poll()
        room.register(self._descriptor, select.POLLOUT)
        room.poll()
