"""Tables of OAuth: authorizations that somebody has begun, and the tokens of each integration."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKeyConstraint, Index, LargeBinary, SmallInteger, func, text
from sqlalchemy.orm import Mapped, mapped_column

from crossdock.db.base import Base
from crossdock.features.vault.sealed_columns import SealedColumn

ACCESS_TOKEN = SealedColumn(table="oauth_tokens", column="access_token", use="oauth-access-token")
REFRESH_TOKEN = SealedColumn(table="oauth_tokens", column="refresh_token", use="oauth-refresh-token")
CODE_VERIFIER = SealedColumn(table="oauth_states", column="code_verifier", use="oauth-code-verifier")


class OAuthState(Base):
    """An authorization under way: good once, for minutes, in the browser that opened its link.

    Of everything that goes through a browser only the SHA-256 is kept. First the link's ticket counts; opening
    it makes the state, and binds both to the browser. `user_id` is set when a signed-in user started: then
    it must also be this user's session that finishes.
    """

    __tablename__ = "oauth_states"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "integration_id"], ["integrations.tenant_id", "integrations.id"], ondelete="CASCADE"
        ),
        Index("oauth_states_ticket_hash_key", "ticket_hash", unique=True),
        Index("oauth_states_state_hash_key", "state_hash", unique=True),
        Index("oauth_states_integration_idx", "tenant_id", "integration_id"),
        Index("oauth_states_expires_at_idx", "expires_at"),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    integration_id: Mapped[UUID]
    ticket_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    state_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    browser_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    code_verifier: Mapped[bytes | None] = mapped_column(LargeBinary)
    user_id: Mapped[UUID | None]
    started_by: Mapped[str]
    redirect_uri: Mapped[str]
    return_url: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]


class OAuthTokens(Base):
    """The tokens of the integration with the same id, and who is renewing them.

    `generation` grows with every renewal, and begins with the time, so that no later row's is below it.
    `renewer` holds the right to renew until `renewer_until`, by the database's clock: what a process leaves
    behind that was killed ends by itself. `revoked_at` is set once the grant is gone; then there are no
    tokens. Renewing that failed is not tried again before `retry_at`. `revision` is the integration's that
    the tokens were got with, `tried_revision` that of the last try: what was changed since is tried at once.
    `grant` is how they were come by.
    """

    __tablename__ = "oauth_tokens"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "id"], ["integrations.tenant_id", "integrations.id"], ondelete="CASCADE"),
        Index("oauth_tokens_renew_at_idx", "renew_at", postgresql_where=text("refresh_token IS NOT NULL")),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    generation: Mapped[int] = mapped_column(BigInteger)
    revision: Mapped[int] = mapped_column(server_default=text("0"))
    access_token: Mapped[bytes | None] = mapped_column(LargeBinary)
    refresh_token: Mapped[bytes | None] = mapped_column(LargeBinary)
    scheme: Mapped[str] = mapped_column(server_default=text("'Bearer'"))
    told: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    scope: Mapped[str | None]
    obtained_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    refresh_expires_at: Mapped[datetime | None]
    renew_at: Mapped[datetime | None]
    failures: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    retry_at: Mapped[datetime | None]
    last_error: Mapped[str | None]
    error_passes: Mapped[bool] = mapped_column(server_default=text("true"))
    grant: Mapped[str | None]
    tried_revision: Mapped[int] = mapped_column(server_default=text("0"))
    revoked_at: Mapped[datetime | None]
    renewer: Mapped[UUID | None]
    renewer_until: Mapped[datetime | None]
