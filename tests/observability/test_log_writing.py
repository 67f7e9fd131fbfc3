"""Logs to a pipe that nobody reads for a while: the work goes on, and the reader learns what it missed."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import PIPE

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
    assert numbers == list(range(len(numbers)))
    assert (len(numbers) + dropped, dropped > 0) == (LINES, True)
    assert {"last words", "the very last"} <= {line["event"] for line in lines}


def test_a_reader_that_never_reads_again_does_not_hold_up_the_end() -> None:
    with logging_process() as process:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.wait() == 0
