"""Secrets that an installation makes for itself, each in a file that only its account can read."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

_OWNER_ONLY_FILE = 0o600
_OWNER_ONLY_FOLDER = 0o700


def read_or_make(path: Path, make: Callable[[], str]) -> str:
    """The secret in the file; made by `make` on first use. Processes that start at once agree on one."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        _write_once(path, make())
    return path.read_text().strip()


def write(path: Path, secret: str) -> None:
    """Put the secret into the file, in place of what it held."""
    _draft(path, secret).replace(path)
    _make_durable(path.parent)


def _write_once(path: Path, secret: str) -> None:
    draft = _draft(path, secret)
    try:
        # A link appears whole or not at all, and never replaces what another process wrote first.
        os.link(draft, path)
        _make_durable(path.parent)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _draft(path: Path, secret: str) -> Path:
    path.parent.mkdir(mode=_OWNER_ONLY_FOLDER, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY_FILE)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret + "\n")
        file.flush()
        os.fsync(file.fileno())
    return draft


def _make_durable(folder: Path) -> None:
    """Let the folder's entries survive a power cut: what is encrypted next must not outlive its key."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
