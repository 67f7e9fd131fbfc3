"""Where sealed secrets stand: every column that holds them is described once, by the feature it belongs to."""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedColumn:
    """A `bytea` column of sealed secrets in a tenant table with the key (`tenant_id`, `id`).

    The role `crossdock_worker` may read it, and `crossdock_app` change it. `use` has no colon, and is no other
    column's. `made_at` is the column that says since when a secret from before the vault has been there.
    """

    table: str
    column: str
    use: str
    made_at: str = "created_at"

    def purpose(self, row_id: UUID) -> str:
        """What the secret in this row is sealed for."""
        return f"{self.use}:{row_id.hex}"
