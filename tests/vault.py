"""A vault for tests that need one and no more."""

from crossdock.db.engine import Database
from crossdock.features.vault.ring import Ring
from crossdock.features.vault.service import Vault
from crossdock.kit.clock import Clock, SystemClock
from crossdock.kit.crypto import new_key


def new_vault(database: Database, *, keys: list[str] | None = None, clock: Clock | None = None) -> Vault:
    """A vault on this database, with keys of its own unless some are given."""
    made = keys or [new_key()]
    return Vault(database=database, ring=Ring(lambda: made), clock=clock or SystemClock())
