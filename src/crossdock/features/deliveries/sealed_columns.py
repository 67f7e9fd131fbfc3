"""Where subscriptions' secrets stand, sealed by the vault."""

from crossdock.features.vault.sealed_columns import SealedColumn

SIGN_IN = SealedColumn(table="subscriptions", column="auth", use="subscription-auth")
SIGNING_KEY = SealedColumn(table="subscription_keys", column="secret", use="subscription-key")
