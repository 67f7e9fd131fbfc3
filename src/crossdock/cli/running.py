"""The note that a running hub leaves in its data folder, and what others learn from it."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from crossdock.settings import Settings

_STATE_FILE = "hub.json"


def running_hub(data_dir: Path) -> str | None:
    """The base URL of the API that runs on this data folder, as its process noted it."""
    state = _noted_state(data_dir)
    return None if state is None else str(state["url"])


def running_allows_loopback(data_dir: Path) -> bool:
    """Whether a hub runs on this data folder that may deliver to this machine."""
    state = _noted_state(data_dir)
    return state is not None and bool(state.get("allow_loopback"))


def _noted_state(data_dir: Path) -> dict[str, Any] | None:
    try:
        state: dict[str, Any] = json.loads((data_dir / _STATE_FILE).read_text())
        os.kill(state["pid"], 0)
        return state if state["url"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def note_running(settings: Settings, url: str) -> Callable[[], None]:
    """Write down where this hub answers; the answer removes the note, unless a later hub has written its own."""
    note = settings.data_dir / _STATE_FILE
    mine = json.dumps({"pid": os.getpid(), "url": url, "allow_loopback": settings.allow_loopback})
    note.parent.mkdir(parents=True, exist_ok=True)
    written = note.with_name(f"{_STATE_FILE}.{os.getpid()}")
    written.write_text(mine)
    written.replace(note)

    def remove() -> None:
        with suppress(OSError):
            if note.read_text() == mine:
                note.unlink()

    return remove
