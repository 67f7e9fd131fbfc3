"""What every outside secret store gives, and what it has in common with the others."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from crossdock.features.vault.errors import SecretNotThereError

CONNECT_TIMEOUT_S = 5.0
TOTAL_TIMEOUT_S = 10.0
# The largest secret of the three is 64 KiB, and comes escaped in JSON.
MAX_ANSWER_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A secret as it lies in an outside store, which version it is, and since when."""

    value: str = field(repr=False)
    version: str | None
    changed_at: datetime | None


class SecretStore(Protocol):
    """Reads secrets from one store with one set of credentials.

    Raises SecretStoreError: StoreUnreachableError when later may help, StoreRefusedError when it does not let
    us in, SecretNotThereError when there is no such secret or field.
    """

    async def read(self, path: str, field: str | None) -> StoredSecret:
        """The newest version of the secret at this path, or one field of it."""
        ...

    async def check(self) -> None:
        """Find out whether the store lets us in."""
        ...

    async def aclose(self) -> None:
        """Let go of what it holds."""
        ...


def field_of(text: str, name: str | None) -> str:
    """The secret itself, or one field of a secret that is a JSON object. Raises SecretNotThereError."""
    if name is None:
        return text
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise SecretNotThereError("The secret is not a JSON object, so it has no fields; leave `field` out.")
    return field_in(found, name)


def field_in(fields: dict[str, Any], name: str) -> str:
    """One field, as text. Raises SecretNotThereError."""
    if name not in fields:
        raise SecretNotThereError(f"The secret has no field {name!r}.")
    value = fields[name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
