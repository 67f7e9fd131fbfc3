"""A Crossdock process of the demo's own, started as a person would start it."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from crossdock.cli.demo.errors import DemoError

_STOP_WITHIN_S = 20.0
_SHOWN_LOG_CHARACTERS = 1_500
# As the installed command does; the package may have been put on the path without its scripts.
_COMMAND = [sys.executable, "-c", "from crossdock.cli.main import app; app()"]


class Child:
    """One process. It has a session of its own, so that a Ctrl-C in our terminal is ours to handle."""

    def __init__(self, *arguments: str, environment: Mapping[str, str], log: Path) -> None:
        self.name = arguments[0]
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [*_COMMAND, *arguments],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def check(self) -> None:
        """Raise DemoError, with the end of its log, when it ended by itself."""
        if self._process.poll() is not None:
            text = self._log.read_text(errors="replace").strip()[-_SHOWN_LOG_CHARACTERS:]
            raise DemoError(f"`crossdock {self.name}` ended with {self._process.returncode}:\n{text}")

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        self._process.kill()
        self._process.wait()

    async def stop(self) -> None:
        """Ask it to end, and make it when it does not."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, _STOP_WITHIN_S)
        self.kill()


def environment(data_dir: Path, **settings: str) -> dict[str, str]:
    """The environment of this process, with these settings of Crossdock on top."""
    return {**os.environ, "CROSSDOCK_DATA_DIR": str(data_dir), **_named(settings)}


def scratch_environment(data_dir: Path, **settings: str) -> dict[str, str]:
    """The environment of this process without any setting of Crossdock but these."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("CROSSDOCK_")}
    return {**plain, "CROSSDOCK_DATA_DIR": str(data_dir), **_named(settings)}


def _named(settings: Mapping[str, str]) -> dict[str, str]:
    return {f"CROSSDOCK_{name.upper()}": value for name, value in settings.items()}
