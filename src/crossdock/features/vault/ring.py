"""The configured encryption keys while a process runs."""

from collections.abc import Callable, Sequence

from crossdock.kit.crypto import EncryptionError, KeyRing


class Ring:
    """The key ring, read again when a key is wanted that was not in it: another process may have added it.

    A key that was read once stays until the process ends: whoever loses the file has it here still.
    """

    def __init__(self, read: Callable[[], Sequence[str]]) -> None:
        self._read = read
        self._seen: list[str] = []
        self.reread()

    @property
    def now(self) -> KeyRing:
        """The ring as it was last read."""
        return self._ring

    def holding(self, key_id: str) -> KeyRing:
        """A ring with this key in it; raises EncryptionError where none has it."""
        if key_id not in self._ring.key_ids:
            self.reread()
        if key_id not in self._ring.key_ids:
            raise EncryptionError(
                f"The encryption key {key_id} is needed and not in CROSSDOCK_ENCRYPTION_KEYS; add that key again."
            )
        return self._ring

    def reread(self) -> None:
        """Take the keys as they are configured now, before those from earlier."""
        self._seen = list(dict.fromkeys([*self._read(), *self._seen]))
        self._ring = KeyRing(self._seen)
