"""Where subscriptions' secrets stand, sealed by the vault."""

from crossdock.features.vault.sealed_columns import Reminds, SealedColumn
from crossdock.kit.ids import IdKind

SIGN_IN = SealedColumn(
    table="subscriptions",
    column="auth",
    use="subscription-auth",
    made_at="created_at",
    reminds=Reminds(what="sign-in at its destination", entity_kind="subscription", id_kind=IdKind.SUBSCRIPTION),
)
SIGNING_KEY = SealedColumn(
    table="subscription_keys",
    column="secret",
    use="subscription-key",
    made_at="created_at",
    reminds=Reminds(
        what="signing secret",
        entity_kind="subscription",
        id_kind=IdKind.SUBSCRIPTION,
        id_column="subscription_id",
        only="expires_at IS NULL",
    ),
)
