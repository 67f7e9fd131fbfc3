"""A process of its own that uses the embedded server, for tests to steer, to kill, and to run as somebody else.

Reads one JSON command a line from standard input and answers each with one line:
`python -m tests.db.embedded.actor DATA_DIR HOMES [UID]`.
"""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from crossdock.db import embedded
from crossdock.db.embedded import layout

_REPOSITORY = Path(__file__).resolve().parents[3]
NOBODY = 65534


class Actor:
    """The test's end of such a process."""

    def __init__(self, data_dir: Path, uid: int | None = None) -> None:
        command = [sys.executable, "-m", "tests.db.embedded.actor", str(data_dir), str(layout._homes())]
        self._child = subprocess.Popen(
            command if uid is None else [*command, str(uid)],
            cwd=_REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, action: str, **arguments: Any) -> None:
        """Give a command without waiting for its answer."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps({"action": action, **arguments}) + "\n")
        self._child.stdin.flush()

    def answer(self) -> Any:
        """The next answer."""
        assert self._child.stdout is not None
        return json.loads(self._child.stdout.readline())

    def ask(self, action: str, **arguments: Any) -> Any:
        """Give a command and wait for its answer."""
        self.tell(action, **arguments)
        return self.answer()

    def interrupt(self) -> None:
        """What Ctrl-C does to it alone; returns when it has ended."""
        self._child.send_signal(signal.SIGINT)
        self._child.wait()

    def kill(self) -> None:
        """SIGKILL, and collect it."""
        self._child.kill()
        self._child.communicate()


def _act(data_dir: Path, command: dict[str, Any]) -> Any:
    match command["action"]:
        case "start":
            server = embedded.start(data_dir, settings={"fsync": "off"})
            return {"dsn": server.dsn, "pid": server.pid, "uid": psutil.Process(server.pid).uids().real}
        case "stop":
            return embedded.stop(data_dir)
        case "status":
            return embedded.status(data_dir).state
        case "limit files":
            resource.setrlimit(resource.RLIMIT_FSIZE, (command["bytes"], command["bytes"]))
            return True
        case unknown:
            raise ValueError(unknown)


def _main() -> None:
    data_dir, homes = Path(sys.argv[1]), Path(sys.argv[2])
    layout._homes = lambda: homes
    if len(sys.argv) > 3:
        # Everything is imported by now: the new account may not be able to enter the interpreter's folder.
        uid = int(sys.argv[3])
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    for line in sys.stdin:
        try:
            answer = _act(data_dir, json.loads(line))
        except embedded.EmbeddedError as error:
            answer = {"error": type(error).__name__, "message": error.message}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
