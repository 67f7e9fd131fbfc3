"""Passwords: argon2id, off the event loop, and at the same cost whether or not there is such a user."""

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from crossdock.features.identity.errors import SignInsBusyError

MIN_PASSWORD_CHARACTERS = 12
MAX_PASSWORD_CHARACTERS = 200

# Each computation takes 64 MiB and a core for its time: more at once would starve everything else.
_THREADS = 2
_MAX_WAITING = 64

T = TypeVar("T")


class Passwords:
    """Hashes and verifies passwords in threads of its own (argon2id, RFC 9106)."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="passwords")
        self._waiting = 0
        self._nobodys_hash: str | None = None

    async def hash(self, password: str) -> str:
        """What to store for this password. Raises SignInsBusyError when too many wait."""
        return await self._in_thread(lambda: self._hasher.hash(password))

    async def verify(self, password: str, stored: str | None) -> bool:
        """Whether it is the password behind `stored`; takes as long where there is none."""
        if self._nobodys_hash is None:
            self._nobodys_hash = await self.hash(secrets.token_urlsafe())
        compared = stored or self._nobodys_hash
        return await self._in_thread(lambda: self._fits(password, compared)) and stored is not None

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _fits(self, password: str, stored: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _in_thread(self, compute: Callable[[], T]) -> T:
        if self._waiting >= _MAX_WAITING:
            raise SignInsBusyError
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, compute)
        finally:
            self._waiting -= 1


def new_password() -> str:
    """A password to hand to a new user: 96 random bits."""
    return secrets.token_urlsafe(12)
