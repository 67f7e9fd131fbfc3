"""Writing lines to a pipe or socket whose reader may stop reading: nobody waits for it but a thread of its own."""

import atexit
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

# What waits for its reader in memory at most; beyond it lines are dropped, and counted.
_MOST_CHARACTERS = 4 * 1024 * 1024
# A reader that does not read would hold up the end of the process for good.
_LAST_WORDS_WITHIN_S = 1


class PatientWriter:
    """A file to write text to that never blocks; `dropped` is told, by and by, of how many lines found no room.

    At the end of the process what was written last is waited for, for a second.
    """

    def __init__(self, descriptor: int, *, dropped: Callable[[int], None]) -> None:
        self._descriptor = descriptor
        self._tell_dropped = dropped
        self._waiting: deque[str] = deque()
        self._characters = 0
        self._dropped = 0
        self._idle = True
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def write(self, text: str) -> None:
        """Have it written, after all that was written before."""
        with self._changed:
            if self._characters + len(text) > _MOST_CHARACTERS:
                self._dropped += 1
                return
            self._waiting.append(text)
            self._characters += len(text)
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
        """Wait until all is written, or the reader has taken nothing for too long."""
        with self._changed:
            self._changed.wait_for(lambda: self._idle, _LAST_WORDS_WITHIN_S)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._idle = True
                    self._changed.notify_all()
                    self._changed.wait()
                lines = "".join(self._waiting)
                self._waiting.clear()
            self._write(lines.encode(errors="backslashreplace"))
            with self._changed:
                self._characters -= len(lines)
                dropped, self._dropped = self._dropped, 0
            if dropped:
                self._tell_dropped(dropped)

    def _write(self, content: bytes) -> None:
        with suppress(OSError):  # nobody is there to take it
            left = memoryview(content)
            while left:
                left = left[os.write(self._descriptor, left) :]
