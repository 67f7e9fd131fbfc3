"""Where integrations' secrets stand, sealed by the vault."""

from crossdock.features.vault.sealed_columns import SealedColumn

CREDENTIALS = SealedColumn(table="integrations", column="credentials", use="integration-credentials")
