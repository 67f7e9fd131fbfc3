"""HashiCorp Vault's KV version 2, or OpenBao's, by a token or an AppRole."""

import json
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from crossdock.features.vault.errors import SecretNotThereError, StoreRefusedError, StoreUnreachableError
from crossdock.features.vault.stores.answers import is_passing, json_object
from crossdock.features.vault.stores.settings import HashicorpCredentials, HashicorpSettings
from crossdock.features.vault.stores.store import (
    CONNECT_TIMEOUT_S,
    MAX_ANSWER_BYTES,
    TOTAL_TIMEOUT_S,
    StoredSecret,
    field_in,
)
from crossdock.gateway.errors import TransportError
from crossdock.gateway.transport import OutboundRequest, OutboundResponse, TlsIdentity, Transport
from crossdock.kit.clock import Clock

_NAME = "HashiCorp Vault"
# A client token is replaced when this share of its life is over.
_USED_SHARE = 0.9
# A client token younger than this was not refused for its age: another one would not help, and each is kept there.
_YOUNG_S = 10.0
_KV_2 = "2"


class HashicorpVault:
    """A SecretStore."""

    def __init__(
        self, settings: HashicorpSettings, credentials: HashicorpCredentials, *, transport: Transport, clock: Clock
    ) -> None:
        self._settings = settings
        self._credentials = credentials
        self._transport = transport
        self._clock = clock
        self._tls = TlsIdentity(ca_pem=settings.ca) if settings.ca else None
        self._client_token: str | None = None
        self._good_until = 0.0
        self._signed_in_at = 0.0

    async def read(self, path: str, field: str | None) -> StoredSecret:
        """The newest version; of a secret with a single field, that one unless `field` says which."""
        if not all(part not in {"", ".", ".."} for part in path.split("/")):
            raise SecretNotThereError(f"A secret's path in {_NAME} has names between single slashes.")
        answer = await self._ask("GET", f"{self._mount}/data/{_escaped(path)}")
        if answer.status == HTTPStatus.NOT_FOUND:
            raise SecretNotThereError(f"{_NAME} has no such secret, or its newest version was deleted.")
        data = _found(answer).get("data")
        fields = data.get("data") if isinstance(data, dict) else None
        if not isinstance(data, dict) or not isinstance(fields, dict):
            raise SecretNotThereError(f"{_NAME} answered without a secret; is the engine KV version 2?")
        if field is None and len(fields) != 1:
            raise SecretNotThereError(f"The secret has {len(fields)} fields; name one as `field`.")
        metadata = data.get("metadata")
        known = metadata if isinstance(metadata, dict) else {}
        version = known.get("version")
        return StoredSecret(
            value=field_in(fields, next(iter(fields)) if field is None else field),
            version=None if version is None else str(version),
            changed_at=_moment(known.get("created_time")),
        )

    async def check(self) -> None:
        """Look the token up, and whether the engine is KV version 2 as far as we may see it."""
        _found(await self._ask("GET", "auth/token/lookup-self"))
        answer = await self._ask("GET", f"sys/internal/ui/mounts/{self._mount}")
        if answer.status != HTTPStatus.OK:
            return
        data = _found(answer).get("data")
        options = data.get("options") if isinstance(data, dict) else None
        if not isinstance(options, dict) or options.get("version") != _KV_2:
            raise SecretNotThereError(f"What {_NAME} has at {self._settings.mount!r} is not a KV version 2 engine.")

    async def aclose(self) -> None:
        """There is nothing to let go of."""

    @property
    def _mount(self) -> str:
        return _escaped(self._settings.mount)

    async def _ask(self, method: str, path: str) -> OutboundResponse:
        """The answer, signed in anew once if the client token may have ended before its time."""
        token = await self._token()
        answer = await self._send(method, path, token=token)
        age_s = self._clock.monotonic() - self._signed_in_at
        if answer.status == HTTPStatus.FORBIDDEN and self._settings.sign_in == "approle" and age_s >= _YOUNG_S:
            self._good_until = 0.0
            answer = await self._send(method, path, token=await self._token())
        if answer.status == HTTPStatus.FORBIDDEN:
            raise StoreRefusedError(f"{_NAME} answered 403: the token has ended, or its policies do not allow this.")
        return answer

    async def _token(self) -> str:
        given = self._credentials.token
        if given is not None:
            return given.get_secret_value()
        if self._client_token is None or self._clock.monotonic() >= self._good_until:
            self._client_token = await self._sign_in()
        return self._client_token

    async def _sign_in(self) -> str:
        secret_id = self._credentials.secret_id
        body = {
            "role_id": self._settings.role_id,
            "secret_id": secret_id.get_secret_value() if secret_id else None,
        }
        path = f"auth/{_escaped(self._settings.approle_mount)}/login"
        answer = await self._send("POST", path, body=json.dumps(body).encode())
        if answer.status in {HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}:
            raise StoreRefusedError(f"{_NAME} answered {answer.status} to the AppRole's sign-in.")
        auth = _found(answer).get("auth")
        token = auth.get("client_token") if isinstance(auth, dict) else None
        if not isinstance(auth, dict) or not isinstance(token, str) or not token.isprintable():
            raise StoreUnreachableError(f"{_NAME} answered the AppRole's sign-in without a token.")
        self._signed_in_at = self._clock.monotonic()
        life_s = auth.get("lease_duration")
        if isinstance(life_s, int) and life_s > 0:
            self._good_until = self._clock.monotonic() + _USED_SHARE * life_s
        else:
            self._good_until = float("inf")  # a token that does not end
        return token

    async def _send(self, method: str, path: str, *, token: str | None = None, body: bytes = b"") -> OutboundResponse:
        headers: list[tuple[str, str]] = [("Accept", "application/json"), ("X-Vault-Request", "true")]
        if token is not None:
            headers.append(("X-Vault-Token", token))
        if self._settings.namespace:
            headers.append(("X-Vault-Namespace", self._settings.namespace))
        if body:
            headers.append(("Content-Type", "application/json"))
        request = OutboundRequest(
            method=method,
            url=f"{self._settings.url.rstrip('/')}/v1/{path}",
            headers=tuple(headers),
            body=body,
            connect_timeout_s=CONNECT_TIMEOUT_S,
            total_timeout_s=TOTAL_TIMEOUT_S,
            max_response_bytes=MAX_ANSWER_BYTES,
            tls=self._tls,
            repeatable=True,
        )
        try:
            return await self._transport.send(request)
        except TransportError as error:
            raise StoreUnreachableError(f"{_NAME} cannot be reached: {error.message}") from None


def _escaped(path: str) -> str:
    return quote(path, safe="/")


def _found(answer: OutboundResponse) -> dict[str, Any]:
    """The answer's object. Raises StoreUnreachableError or StoreRefusedError; messages of theirs are not repeated."""
    if answer.status == HTTPStatus.OK:
        return json_object(answer, _NAME)
    if answer.status in {HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT}:
        raise StoreRefusedError(f"{_NAME} sends us on to another node; give the address of the active one.")
    if is_passing(answer.status):
        raise StoreUnreachableError(f"{_NAME} answered {answer.status}: it is sealed, on standby, or in trouble.")
    raise StoreRefusedError(f"{_NAME} answered {answer.status}.")


def _moment(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
