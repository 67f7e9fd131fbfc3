"""The API's shape of authorizations and tokens."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from crossdock.features.integrations.oauth.models import OAuthTokens


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class AuthorizationIn(BaseModel):
    """What comes after an authorization."""

    model_config = ConfigDict(extra="forbid")

    return_url: str | None = Field(
        default=None,
        max_length=500,
        description="Where the browser goes after it, with `integration` and `result` in its query: a path here, or a "
        "URL at one of the installation's CROSSDOCK_OAUTH_RETURN_ORIGINS.",
    )


class AuthorizationStarted(_View):
    """An authorization that waits for its person."""

    url: str = Field(description="Open it in the person's browser: once, and in the one that is to come back.")
    redirect_uri: str = Field(description="What the provider must know of as this application's redirect URI.")
    expires_at: datetime


class TokenState(_View):
    """How an integration stands with its provider; tokens themselves are never shown."""

    connected: bool
    obtained_at: datetime | None = None
    expires_at: datetime | None = Field(default=None, description="None for a token that is good until it is refused.")
    renewable: bool = Field(default=False, description="Whether there is a refresh token.")
    refresh_expires_at: datetime | None = None
    scope: str | None = None
    values: dict[str, str] = Field(default_factory=dict, description="What the provider told of the connection.")
    last_error: str | None = None
    retry_at: datetime | None = None
    revoked_at: datetime | None = None

    @classmethod
    def of(cls, row: OAuthTokens | None) -> "TokenState":
        """From the stored row."""
        if row is None:
            return cls(connected=False)
        return cls(
            connected=row.access_token is not None,
            obtained_at=row.obtained_at,
            expires_at=row.expires_at,
            renewable=row.refresh_token is not None,
            refresh_expires_at=row.refresh_expires_at,
            scope=row.scope,
            values=row.told,
            last_error=row.last_error,
            retry_at=row.retry_at,
            revoked_at=row.revoked_at,
        )
