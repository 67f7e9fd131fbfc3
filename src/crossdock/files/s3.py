"""Files in an S3-compatible object storage.

Imported only where it is chosen: the library takes longer to load than all the rest.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError

from crossdock.files.store import FileStoreError, StoredFileNotFoundError, checked, is_key

_CHUNK_BYTES = 256 * 1024
_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = 30
_TRIES = 3

_FAILURES = (BotoCoreError, ClientError, aiohttp.ClientError, TimeoutError, OSError)


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Location:
    """Which bucket, and how it is reached; without keys, the usual chain of AWS finds some."""

    bucket: str
    prefix: str = ""
    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    path_style: bool = False


class S3Files:
    """A file store in a bucket, connected on first use."""

    def __init__(self, location: S3Location) -> None:
        self._location = location
        self._prefix = f"{location.prefix.strip('/')}/" if location.prefix.strip("/") else ""
        self._exits = AsyncExitStack()
        self._connected: Any = None
        self._connecting = asyncio.Lock()

    async def put(self, key: str, content: bytes) -> None:
        """Store a file; S3 answers once it is durable."""
        try:
            client = await self._client()
            await client.put_object(Bucket=self._location.bucket, Key=self._prefix + checked(key), Body=content)
        except _FAILURES as error:
            raise self._unavailable(error) from error

    async def read(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """The file's bytes, or `length` of them from `offset` on, in chunks."""
        if length == 0:
            return
        wanted = {"Bucket": self._location.bucket, "Key": self._prefix + checked(key)}
        if offset or length is not None:
            wanted["Range"] = f"bytes={offset}-{'' if length is None else offset + length - 1}"
        try:
            client = await self._client()
            answer = await client.get_object(**wanted)
            async with answer["Body"] as stream:
                async for chunk in stream.iter_chunks(_CHUNK_BYTES):
                    yield chunk
        except _FAILURES as error:
            if _code_of(error) in {"NoSuchKey", "404"}:
                raise StoredFileNotFoundError from error
            if _code_of(error) == "InvalidRange":
                return  # nothing stands there, as behind the end of a file on disk
            raise self._unavailable(error) from error

    async def delete(self, key: str) -> None:
        """Remove a file, if it is there."""
        try:
            client = await self._client()
            await client.delete_object(Bucket=self._location.bucket, Key=self._prefix + checked(key))
        except _FAILURES as error:
            raise self._unavailable(error) from error

    async def delete_before(self, day: date, *, limit: int) -> int:
        """Remove up to `limit` files of earlier days, the oldest first; how many were removed."""
        removed = 0
        try:
            client = await self._client()
            async for key in self._keys_before(client, day):
                if removed == limit:
                    break
                # One by one: many S3-likes do not know the request for many, or want another checksum with it.
                await client.delete_object(Bucket=self._location.bucket, Key=key)
                removed += 1
        except _FAILURES as error:
            raise self._unavailable(error) from error
        return removed

    async def _keys_before(self, client: Any, day: date) -> AsyncIterator[str]:  # noqa: ANN401 - has no types
        """The objects of earlier days, the oldest first; those that are not ours are left out."""
        end = f"{self._prefix}{day.isoformat()}"
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self._location.bucket, Prefix=self._prefix)
        async for page in pages:
            # Keys begin with their day and are listed in order.
            for found in page.get("Contents", []):
                key: str = found["Key"]
                if key >= end:
                    return
                if is_key(key.removeprefix(self._prefix)):
                    yield key

    async def aclose(self) -> None:
        """Close the connections."""
        self._connected = None
        await self._exits.aclose()

    async def _client(self) -> Any:  # noqa: ANN401 - made from the service's description, without types
        async with self._connecting:
            if self._connected is None:
                self._connected = await self._exits.enter_async_context(self._make_client())
        return self._connected

    def _make_client(self) -> Any:  # noqa: ANN401 - as above
        location = self._location
        return get_session().create_client(
            "s3",
            endpoint_url=location.endpoint_url,
            region_name=location.region,
            aws_access_key_id=location.access_key_id,
            aws_secret_access_key=location.secret_access_key,
            config=AioConfig(
                connect_timeout=_CONNECT_TIMEOUT_S,
                read_timeout=_READ_TIMEOUT_S,
                retries={"mode": "standard", "total_max_attempts": _TRIES},
                s3={"addressing_style": "path" if location.path_style else "auto"},
                # The newer checksums are more than many S3-likes understand.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def _unavailable(self, error: Exception) -> FileStoreError:
        what = _code_of(error) or type(error).__name__
        return FileStoreError(
            f"The bucket {self._location.bucket} does not do as it is asked ({what}); nothing was stored. Try again."
        )


def _code_of(error: Exception) -> str | None:
    if not isinstance(error, ClientError):
        return None
    code: str | None = error.response.get("Error", {}).get("Code")
    return code
