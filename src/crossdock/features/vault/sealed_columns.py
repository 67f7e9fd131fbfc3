"""Where sealed secrets stand: every column that holds them is described once, by the feature it belongs to."""

from dataclasses import dataclass
from uuid import UUID

from crossdock.kit.ids import IdKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Reminds:
    """Of what a tenant is reminded when a secret gets old: `what` it is, and the entity it belongs to.

    `id_column` holds the entity's id; `only` is an SQL condition on the rows that count.
    """

    what: str
    entity_kind: str
    id_kind: IdKind
    id_column: str = "id"
    only: str = "true"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedColumn:
    """A `bytea` column of sealed secrets in a tenant table with the key (`tenant_id`, `id`).

    The role `crossdock_worker` may read it, and `crossdock_app` change it. `use` has no colon, and is no other
    column's. `made_at` is the column that says since when a secret has been there, for those from before the vault.
    Secrets that nobody typed, such as tokens, have no `reminds`.
    """

    table: str
    column: str
    use: str
    made_at: str | None = None
    reminds: Reminds | None = None

    def purpose(self, row_id: UUID) -> str:
        """What the secret in this row is sealed for."""
        return f"{self.use}:{row_id.hex}"
