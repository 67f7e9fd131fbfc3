"""Where integrations' secrets stand, sealed by the vault."""

from crossdock.features.vault.sealed_columns import Reminds, SealedColumn
from crossdock.kit.ids import IdKind

CREDENTIALS = SealedColumn(
    table="integrations",
    column="credentials",
    use="integration-credentials",
    reminds=Reminds(what="credentials", entity_kind="integration", id_kind=IdKind.INTEGRATION),
)
