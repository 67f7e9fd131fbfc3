"""AWS Secrets Manager (API 2017-10-17), by aiobotocore over our own transport.

Imported only where a tenant has such a store: the library takes longer to load than all the rest.
"""

import asyncio
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Self

from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

from crossdock.features.vault.errors import (
    SecretNotThereError,
    SecretStoreError,
    StoreRefusedError,
    StoreUnreachableError,
)
from crossdock.features.vault.stores.settings import AwsCredentials, AwsSettings
from crossdock.features.vault.stores.store import (
    CONNECT_TIMEOUT_S,
    MAX_ANSWER_BYTES,
    TOTAL_TIMEOUT_S,
    StoredSecret,
    field_of,
)
from crossdock.gateway.errors import TransportError
from crossdock.gateway.transport import OutboundRequest, Transport
from crossdock.kit.clock import Clock

_TRIES = 2
_SESSION_NAME = "crossdock"
# A role's keys are taken anew this long before they end.
_LEAD = timedelta(minutes=5)

_MISSING = frozenset({"ResourceNotFoundException"})
_PASSING = frozenset({"ThrottlingException", "InternalServiceError", "RequestLimitExceeded", "ServiceUnavailable"})
# Whoever may read single secrets need not be allowed to list them.
_LET_IN = frozenset({"AccessDeniedException"})


class AwsSecretsManager:
    """A SecretStore; connected on first use."""

    def __init__(
        self, settings: AwsSettings, credentials: AwsCredentials, *, transport: Transport, clock: Clock
    ) -> None:
        self._settings = settings
        self._credentials = credentials
        self._session_class = _over(transport)
        self._clock = clock
        self._exits = AsyncExitStack()
        self._client: Any = None
        self._good_until: datetime | None = None
        self._connecting = asyncio.Lock()

    async def read(self, path: str, field: str | None) -> StoredSecret:
        """The version that AWS calls current; `path` is the secret's name or ARN."""
        try:
            client = await self._connected()
            # Named, because some of AWS's doubles give an older version otherwise.
            answer = await client.get_secret_value(SecretId=path, VersionStage="AWSCURRENT")
        except (BotoCoreError, ClientError) as error:
            raise _told(error) from None
        return StoredSecret(
            value=field_of(_text(answer), field),
            version=answer.get("VersionId"),
            changed_at=answer.get("CreatedDate"),
        )

    async def check(self) -> None:
        """List one secret; that listing is not allowed is no reason to complain."""
        try:
            client = await self._connected()
            await client.list_secrets(MaxResults=1)
        except (BotoCoreError, ClientError) as error:
            if _code(error) not in _LET_IN:
                raise _told(error) from None

    async def aclose(self) -> None:
        """Let go of the client."""
        await self._exits.aclose()

    async def _connected(self) -> Any:  # noqa: ANN401 - botocore makes its clients at run time
        async with self._connecting:
            if self._client is None or (self._good_until is not None and self._clock.now() >= self._good_until):
                await self._exits.aclose()
                self._client = await self._connect()
            return self._client

    async def _connect(self) -> Any:  # noqa: ANN401 - botocore makes its clients at run time
        token = self._credentials.session_token
        keys = {
            "aws_access_key_id": self._settings.access_key_id,
            "aws_secret_access_key": self._credentials.secret_access_key.get_secret_value(),
            "aws_session_token": token.get_secret_value() if token else None,
        }
        if self._settings.role_arn is not None:
            keys = await self._keys_of_role(keys, self._settings.role_arn)
        return await self._exits.enter_async_context(self._make("secretsmanager", keys))

    async def _keys_of_role(self, keys: dict[str, Any], role_arn: str) -> dict[str, Any]:
        external = {"ExternalId": self._settings.external_id} if self._settings.external_id else {}
        async with self._make("sts", keys) as sts:
            answer = await sts.assume_role(RoleArn=role_arn, RoleSessionName=_SESSION_NAME, **external)
        given = answer["Credentials"]
        self._good_until = given["Expiration"] - _LEAD
        return {
            "aws_access_key_id": given["AccessKeyId"],
            "aws_secret_access_key": given["SecretAccessKey"],
            "aws_session_token": given["SessionToken"],
        }

    def _make(self, service: str, keys: dict[str, Any]) -> Any:  # noqa: ANN401 - botocore's
        return get_session().create_client(
            service,
            region_name=self._settings.region,
            endpoint_url=self._settings.endpoint_url,
            config=AioConfig(
                http_session_cls=self._session_class,
                ignore_configured_endpoint_urls=True,
                warm_up_loader_caches=True,
                retries={"mode": "standard", "total_max_attempts": _TRIES},
            ),
            **keys,
        )


class _TransportSession:
    """What aiobotocore sends requests with: our transport, which judges every address it connects to."""

    def __init__(self, transport: Transport, **_ours: object) -> None:
        self._transport = transport

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """The transport is not ours to close."""

    async def send(self, request: Any) -> AioAWSResponse:  # noqa: ANN401 - botocore's AWSPreparedRequest
        """One request as botocore has signed it."""
        body = request.body or b""
        outbound = OutboundRequest(
            method=request.method,
            url=request.url,
            headers=tuple((name, _decoded(value)) for name, value in request.headers.items() if _is_sent(name)),
            body=body.encode() if isinstance(body, str) else bytes(body),
            connect_timeout_s=CONNECT_TIMEOUT_S,
            total_timeout_s=TOTAL_TIMEOUT_S,
            max_response_bytes=MAX_ANSWER_BYTES,
            repeatable=True,
        )
        try:
            answer = await self._transport.send(outbound)
        except TransportError as error:
            raise EndpointConnectionError(endpoint_url=request.url, error=error) from error
        response = AioAWSResponse(
            request.url, answer.status, {name.lower(): value for name, value in answer.headers}, None
        )
        response._content = answer.body  # noqa: SLF001 - where it looks before it reads from a connection
        return response


def _over(transport: Transport) -> Any:  # noqa: ANN401 - aiobotocore wants something to call like its own class
    return partial(_TransportSession, transport)


def _is_sent(name: str) -> bool:
    return name.lower() not in {"content-length", "host"}  # the transport's own


def _decoded(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _text(answer: dict[str, Any]) -> str:
    text = answer.get("SecretString")
    if isinstance(text, str):
        return text
    try:
        return bytes(answer["SecretBinary"]).decode()
    except (KeyError, UnicodeDecodeError):
        raise SecretNotThereError("The secret in AWS Secrets Manager is not text.") from None


def _code(error: Exception) -> str:
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def _told(error: Exception) -> SecretStoreError:
    """The error by AWS's code alone: its message may repeat what was sent."""
    code = _code(error)
    if code in _MISSING:
        return SecretNotThereError("AWS Secrets Manager has no such secret, or no current version of it.")
    if not code or code in _PASSING or code.startswith("5"):
        cause = error.kwargs.get("error") if isinstance(error, BotoCoreError) else None
        why = cause.message if isinstance(cause, TransportError) else code or type(error).__name__
        return StoreUnreachableError(f"AWS Secrets Manager cannot be reached: {why}")
    return StoreRefusedError(f"AWS Secrets Manager refused the request: {code[:80]}.")
