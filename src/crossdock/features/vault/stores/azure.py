"""Azure Key Vault's secrets (data plane API 7.4), with tokens of Entra ID by client credentials."""

import json
import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from crossdock.features.vault.errors import (
    SecretNotThereError,
    SecretStoreError,
    StoreRefusedError,
    StoreUnreachableError,
)
from crossdock.features.vault.stores.answers import is_passing, json_object
from crossdock.features.vault.stores.settings import AzureCredentials, AzureSettings
from crossdock.features.vault.stores.store import (
    CONNECT_TIMEOUT_S,
    MAX_ANSWER_BYTES,
    TOTAL_TIMEOUT_S,
    StoredSecret,
    field_of,
)
from crossdock.gateway.errors import TokenFetchError, TransportError
from crossdock.gateway.oauth.grants import OAuthClient, TokenGrant
from crossdock.gateway.oauth.settings import ClientAuthentication, Grant, OAuthSettings
from crossdock.gateway.oauth.source import TokenSource
from crossdock.gateway.transport import OutboundRequest, OutboundResponse, Transport
from crossdock.kit.clock import Clock

_API_VERSION = "7.4"
_NAME = re.compile(r"[0-9A-Za-z-]{1,127}")
_CODE = re.compile(r"[A-Za-z0-9]{1,64}")
# Whoever may read single secrets need not be allowed to list them.
_LET_IN = frozenset({"AccessDenied", "ForbiddenByRbac", "ForbiddenByPolicy"})


class AzureKeyVault:
    """A SecretStore."""

    def __init__(
        self, settings: AzureSettings, credentials: AzureCredentials, *, transport: Transport, clock: Clock
    ) -> None:
        self._url = settings.vault_url.rstrip("/")
        self._transport = transport
        self._tokens = TokenSource(transport=transport, clock=clock)
        self._grant = TokenGrant(
            settings=OAuthSettings(
                grant=Grant.CLIENT_CREDENTIALS,
                token_url=f"{settings.authority_url.rstrip('/')}/{settings.directory_id}/oauth2/v2.0/token",
                client_authentication=ClientAuthentication.POST,
                scopes=(scope_of(self._url),),
            ),
            client=OAuthClient(id=settings.client_id, secret=credentials.client_secret.get_secret_value()),
        )

    async def read(self, path: str, field: str | None) -> StoredSecret:
        """The newest version of the secret of this name."""
        if not _NAME.fullmatch(path):
            raise SecretNotThereError("A secret's name in Azure Key Vault has letters, digits and hyphens, up to 127.")
        found = self._found(await self._get(f"/secrets/{path}?api-version={_API_VERSION}"))
        value, attributes = found.get("value"), found.get("attributes")
        if not isinstance(value, str):
            raise SecretNotThereError("Azure Key Vault answered without a value.")
        return StoredSecret(
            value=field_of(value, field),
            version=str(found.get("id", "")).rpartition("/")[2] or None,
            changed_at=_moment(attributes.get("created") if isinstance(attributes, dict) else None),
        )

    async def check(self) -> None:
        """List one secret; that listing is not allowed is no reason to complain."""
        answer = await self._get(f"/secrets?maxresults=1&api-version={_API_VERSION}")
        if answer.status == HTTPStatus.FORBIDDEN and _codes(answer) & _LET_IN:
            return
        self._found(answer)

    async def aclose(self) -> None:
        """Stop fetching tokens."""
        await self._tokens.aclose()

    async def _get(self, path: str) -> OutboundResponse:
        """The answer, with one fresh token if it is for the first one's sake that we are refused."""
        token = await self._token()
        answer = await self._send(path, token)
        if answer.status == HTTPStatus.UNAUTHORIZED and self._tokens.refused(self._grant, token):
            answer = await self._send(path, await self._token())
        return answer

    async def _token(self) -> str:
        try:
            return (await self._tokens.token(self._grant)).value
        except TokenFetchError as error:
            kind = StoreUnreachableError if error.retryable else StoreRefusedError
            raise kind(f"Entra ID gave no token for Azure Key Vault: {error.message}") from None

    async def _send(self, path: str, token: str) -> OutboundResponse:
        request = OutboundRequest(
            method="GET",
            url=self._url + path,
            headers=(("Authorization", f"Bearer {token}"), ("Accept", "application/json")),
            connect_timeout_s=CONNECT_TIMEOUT_S,
            total_timeout_s=TOTAL_TIMEOUT_S,
            max_response_bytes=MAX_ANSWER_BYTES,
            repeatable=True,
        )
        try:
            return await self._transport.send(request)
        except TransportError as error:
            raise StoreUnreachableError(f"Azure Key Vault cannot be reached: {error.message}") from None

    @staticmethod
    def _found(answer: OutboundResponse) -> dict[str, Any]:
        if answer.status == HTTPStatus.OK:
            return json_object(answer, "Azure Key Vault")
        raise _told(answer)


def scope_of(vault_url: str) -> str:
    """What a token for this vault must be good for: the service that its host belongs to, in any cloud."""
    host = urlsplit(vault_url).hostname or ""
    _, _, service = host.partition(".")
    known = service.startswith("vault.") and not service[6:].replace(".", "").isdigit()
    return f"https://{service if known else 'vault.azure.net'}/.default"


def _told(answer: OutboundResponse) -> SecretStoreError:
    codes = sorted(_codes(answer))
    named = f"{answer.status} ({', '.join(codes)})" if codes else str(answer.status)
    if answer.status == HTTPStatus.NOT_FOUND:
        return SecretNotThereError("Azure Key Vault has no such secret.")
    if "SecretDisabled" in codes:
        return SecretNotThereError("The secret's newest version in Azure Key Vault is disabled.")
    if is_passing(answer.status):
        return StoreUnreachableError(f"Azure Key Vault answered {named}.")
    return StoreRefusedError(f"Azure Key Vault answered {named}.")


def _codes(answer: OutboundResponse) -> set[str]:
    """The error's codes, from the outermost in; their messages may repeat what was sent."""
    found: set[str] = set()
    try:
        error = json.loads(answer.body).get("error")
        while isinstance(error, dict) and len(found) < 3:  # noqa: PLR2004 - deeper than any that are documented
            code = error.get("code")
            if not isinstance(code, str) or not _CODE.fullmatch(code) or code in found:
                break
            found.add(code)
            error = error.get("innererror")
    except (ValueError, AttributeError, RecursionError):
        pass
    return found


def _moment(seconds: object) -> datetime | None:
    return datetime.fromtimestamp(seconds, tz=UTC) if isinstance(seconds, int) else None
