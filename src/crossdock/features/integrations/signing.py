"""From what a connection holds to what the gateway signs its calls with."""

from typing import Protocol

from crossdock.connectors.manifest import needs_consent
from crossdock.connectors.manifest.auth import ApiKeyAuth, AwsAuth, BasicAuth, BearerAuth, OAuth2Auth
from crossdock.features.integrations.connections import Connection
from crossdock.features.integrations.errors import InvalidIntegrationError
from crossdock.features.integrations.oauth.grants import grant_of
from crossdock.gateway.credentials import (
    Credentials,
    FixedCredentials,
    TokenCredentials,
    api_key_header,
    api_key_query,
    basic,
)
from crossdock.gateway.headers import name_fault
from crossdock.gateway.interpolation import fill
from crossdock.gateway.oauth.source import SourcedTokens, TokenSource
from crossdock.gateway.oauth.token import TokenProvider
from crossdock.gateway.sigv4 import AwsKeys, SigV4
from crossdock.gateway.transport import TlsIdentity, Transport
from crossdock.kit.clock import Clock
from crossdock.kit.errors import Fault


class TokenProviders(Protocol):
    """Knows who gives out an OAuth connection's tokens."""

    def provider(self, connection: Connection) -> TokenProvider:
        """The connection's; tokens are asked for when a call needs one."""
        ...


class PlannedTokens:
    """Tokens for settings that are not stored yet: got for the occasion, except where a person's consent is needed."""

    def __init__(self, *, stored: TokenProviders, transport: Transport, clock: Clock) -> None:
        self._stored = stored
        self._transport = transport
        self._clock = clock

    def provider(self, connection: Connection) -> TokenProvider:
        """The connection's; raises InvalidInputError for settings of OAuth that cannot be."""
        if needs_consent(connection.method, connection.config):
            return self._stored.provider(connection)
        source = TokenSource(transport=self._transport, clock=self._clock)
        return SourcedTokens(source=source, grant=grant_of(connection, told={}))


class Signing:
    """Makes gateway credentials."""

    def __init__(self, *, tokens: TokenProviders) -> None:
        self._tokens = tokens

    def credentials(self, connection: Connection) -> Credentials:
        """What signs this connection's calls.

        Raises InvalidIntegrationError for credentials that are missing, and InterpolationError.
        """
        tls = connection.tls()
        made: Credentials = FixedCredentials(tls=tls)
        match connection.method:
            case ApiKeyAuth() as method:
                made = _api_key(method, connection, tls)
            case BasicAuth() as method:
                username = fill(method.username or "", connection.variables()) or _given(connection, "username")
                password = method.password if method.password is not None else _given(connection, "password")
                made = basic(username, password, tls=tls)
            case BearerAuth() as method:
                prefix = f"{method.scheme} "
                made = api_key_header("Authorization", _given(connection, "token"), prefix=prefix, tls=tls)
            case AwsAuth() as method:
                made = _aws(method, connection)
            case OAuth2Auth():
                made = TokenCredentials(self._tokens.provider(connection), tls=tls)
        return made


def _api_key(method: ApiKeyAuth, connection: Connection, tls: TlsIdentity | None) -> Credentials:
    name, key = fill(method.name, connection.variables()), _given(connection, "api_key")
    if method.place == "query":
        return api_key_query(name, key, tls=tls)
    return api_key_header(_header(name), key, prefix=method.prefix, tls=tls)


def _aws(method: AwsAuth, connection: Connection) -> SigV4:
    keys = AwsKeys(
        access_key_id=_given(connection, "access_key_id"),
        secret_access_key=_given(connection, "secret_access_key"),
        session_token=connection.credentials.get("session_token"),
    )
    return SigV4(keys, service=method.service, region=fill(method.region, connection.variables()))


def _given(connection: Connection, name: str) -> str:
    value = connection.credentials.get(name)
    if not value:
        raise InvalidIntegrationError(
            f"The integration has no {name}; give it its credentials.", (Fault(f"/credentials/{name}", "is missing"),)
        )
    return value


def _header(name: str) -> str:
    fault = name_fault(name)
    if fault:
        raise InvalidIntegrationError(f"The API key's header cannot be {name[:80]!r}. {fault}")
    return name
