"""Logs to a pipe that nobody reads for a while: the work goes on, and the reader learns what it missed."""

import json
import os
import select
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from subprocess import PIPE

import pytest

from crossdock.observability.log_writing import PatientWriter

LINES = 3_000
PROGRAM = f"""
import logging, structlog
from crossdock.observability.logging import configure_logging
configure_logging(level="info", log_format="json")
log = structlog.get_logger("test")
for number in range({LINES}):
    log.info("line", number=number, filler="x" * 4000)
print("went on", flush=True)
input()
log.info("last words")
logging.getLogger("test").info("the very last")
"""


@contextmanager
def logging_process() -> Iterator[subprocess.Popen[bytes]]:
    """It has written more than a pipe and the memory for it hold."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
        too_long = threading.Timer(60, process.kill)  # for ever, if it waits for its reader
        too_long.start()
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"went on\n"
            yield process
        finally:
            too_long.cancel()
            process.kill()


def test_a_reader_that_stops_reading_stops_no_work_and_learns_what_it_missed() -> None:
    with logging_process() as process:
        _, shown = process.communicate(b"\n")
    lines = [json.loads(line) for line in shown.splitlines()]
    numbers = [line["number"] for line in lines if line["event"] == "line"]
    dropped = sum(line["count"] for line in lines if line["event"] == "log_lines_dropped")
    assert numbers == sorted(set(numbers))
    assert (len(numbers) + dropped, dropped > 0) == (LINES, True)
    assert {"last words", "the very last"} <= {line["event"] for line in lines}


def test_a_reader_that_never_reads_again_does_not_hold_up_the_end() -> None:
    with logging_process() as process:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.wait() == 0


class Pipe:
    """A pipe that is read only when `lines` is called."""

    def __init__(self) -> None:
        self._end, self.descriptor = os.pipe()
        self._writers: list[PatientWriter] = []

    def writer(self, dropped: Callable[[int], None] = print) -> PatientWriter:
        """As each process has one that shares the pipe."""
        self._writers.append(PatientWriter(self.descriptor, dropped=dropped))
        return self._writers[-1]

    def lines(self, *, until: Callable[[bytes], bool]) -> list[bytes]:
        """What comes until it is enough, or nothing does any longer."""
        come = b""
        while not until(come) and select.select([self._end], [], [], 10)[0]:
            come += os.read(self._end, 65_536)
        return come.splitlines()

    def close(self) -> None:
        """Nobody reads any longer."""
        os.close(self._end)
        for writer in self._writers:
            writer.close()
        os.close(self.descriptor)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    one = Pipe()
    yield one
    one.close()


def test_lines_of_several_processes_on_one_pipe_stay_whole(pipe: Pipe) -> None:
    for name in "ab":
        writer = pipe.writer()
        for _ in range(2_000):
            writer.write(name * 150 + "\n")
    come = Counter(pipe.lines(until=lambda come: come.count(b"\n") == 4_000))
    assert come == {b"a" * 150: 2_000, b"b" * 150: 2_000}


def test_a_pipe_that_somebody_keeps_from_waiting_loses_no_line(pipe: Pipe) -> None:
    os.set_blocking(pipe.descriptor, False)
    writer = pipe.writer()
    for _ in range(2_000):
        writer.write("x" * 150 + "\n")
    writer.write("last\n")
    assert len(pipe.lines(until=lambda come: come.endswith(b"last\n"))) == 2_001


def test_how_many_were_dropped_is_told_though_there_is_no_room_again(pipe: Pipe) -> None:
    def write(count: int) -> None:
        for _ in range(count):
            writer.write("x" * 1_023 + "\n")  # so that no room is left over

    def tell(count: int) -> None:
        if not told:
            others = threading.Thread(target=write, args=[10])
            others.start()
            others.join()
        told.append(count)
        writer.write(f"dropped {count}\n")

    told: list[int] = []
    writer = pipe.writer(tell)
    write(5_000)
    come = pipe.lines(until=lambda come: come.endswith(b"\n") and b"dropped" in come)
    assert f"dropped {told[0]}".encode() in come
