"""One suite for every file store."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import boto3
import pytest
from moto.server import ThreadedMotoServer

from crossdock.files import s3
from crossdock.files.disk import DiskFiles
from crossdock.files.s3 import S3Files, S3Location
from crossdock.files.store import FileStore, FileStoreError, StoredFileNotFoundError, file_key
from crossdock.kit.ids import new_uuid, uuid_floor, uuid_time

TENANT = UUID(int=7)
CONTENT = bytes(range(256)) * 4_000
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}


def _location(endpoint_url: str, **more: Any) -> S3Location:
    return S3Location(
        bucket="hub",
        endpoint_url=endpoint_url,
        region="us-east-1",
        access_key_id="test",
        secret_access_key="test",
        path_style=True,
        **more,
    )


@pytest.fixture(scope="session")
def object_storage() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def bucket(object_storage: str) -> str:
    client = boto3.client("s3", endpoint_url=object_storage, **KEYS)
    client.create_bucket(Bucket="hub")
    client.close()
    return object_storage


@pytest.fixture(params=["disk", "s3"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[FileStore]:
    opened: FileStore
    if request.param == "disk":
        opened = DiskFiles(tmp_path / "some" / "files")
    else:
        # A folder of each test's own: making a bucket takes long.
        opened = S3Files(_location(request.getfixturevalue("bucket"), prefix=f"/a/{new_uuid().hex}/"))
    yield opened
    await opened.aclose()


async def whole(store: FileStore, key: str, **wanted: int | None) -> bytes:
    return b"".join([chunk async for chunk in store.read(key, **wanted)])  # type: ignore[arg-type]  # offset is given


def key_on(day: date) -> str:
    moment = uuid_time(new_uuid()).replace(year=day.year, month=day.month, day=day.day)
    return file_key(TENANT, UUID(int=uuid_floor(moment).int | new_uuid().int & (1 << 64) - 1))


def test_a_key_begins_with_the_day_of_its_file() -> None:
    file_id = new_uuid()
    day = uuid_time(file_id).date().isoformat()
    assert file_key(TENANT, file_id) == f"{day}/{TENANT.hex}/{file_id.hex}"


async def test_what_was_stored_is_read_byte_for_byte(store: FileStore) -> None:
    for content in (b"", b"x", CONTENT):
        key = file_key(TENANT, new_uuid())
        await store.put(key, content)
        assert await whole(store, key) == content


async def test_a_range_is_read_alone(store: FileStore) -> None:
    key = file_key(TENANT, new_uuid())
    await store.put(key, CONTENT)
    for offset, length in ((0, 1), (5, 300_000), (1_023_999, 1), (10, None), (0, 0), (9, 0), (1_000_000, 10**9)):
        end = None if length is None else offset + length
        assert await whole(store, key, offset=offset, length=length) == CONTENT[offset:end]


async def test_nothing_stands_behind_the_end(store: FileStore) -> None:
    key = file_key(TENANT, new_uuid())
    await store.put(key, b"abc")
    assert await whole(store, key, offset=3) == b""


async def test_large_files_come_in_chunks(store: FileStore) -> None:
    key = file_key(TENANT, new_uuid())
    await store.put(key, CONTENT)
    sizes = [len(chunk) async for chunk in store.read(key)]
    assert sum(sizes) == len(CONTENT)
    assert max(sizes) <= 256 * 1024


async def test_storing_again_is_harmless(store: FileStore) -> None:
    key = file_key(TENANT, new_uuid())
    await asyncio.gather(*(store.put(key, CONTENT) for _ in range(4)))
    assert await whole(store, key) == CONTENT


async def test_what_is_not_there_is_not_found(store: FileStore) -> None:
    key = file_key(TENANT, new_uuid())
    with pytest.raises(StoredFileNotFoundError):
        await whole(store, key)
    await store.delete(key)


async def test_a_deleted_file_is_gone_and_the_others_stay(store: FileStore) -> None:
    gone, stays = file_key(TENANT, new_uuid()), file_key(TENANT, new_uuid())
    for key in (gone, stays):
        await store.put(key, b"x")
    await store.delete(gone)
    with pytest.raises(StoredFileNotFoundError):
        await whole(store, gone)
    assert await whole(store, stays) == b"x"


async def test_old_days_go_in_steps_the_oldest_first(store: FileStore) -> None:
    old = [key_on(date(2026, 1, 1)) for _ in range(3)] + [key_on(date(2026, 1, 2)) for _ in range(2)]
    young = [key_on(date(2026, 1, 3)), key_on(date(2026, 2, 1))]
    for key in (*young, *old):
        await store.put(key, b"x")
    assert await store.delete_before(date(2026, 1, 3), limit=3) == 3
    for key in old[:3]:
        with pytest.raises(StoredFileNotFoundError):
            await whole(store, key)
    assert await store.delete_before(date(2026, 1, 3), limit=3) == 2
    assert await store.delete_before(date(2026, 1, 3), limit=3) == 0
    for key in young:
        assert await whole(store, key) == b"x"


async def test_what_is_not_ours_is_not_removed_with_old_days(bucket: str, tmp_path: Path) -> None:
    client = boto3.client("s3", endpoint_url=bucket, **KEYS)
    names = ("shared/2020-01-01/report.pdf", "shared/1999.tar", "shared/" + "0" * 32)
    for name in names:
        client.put_object(Bucket="hub", Key=name, Body=b"theirs")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "shared" / "1999").mkdir(exist_ok=True)
    on_disk, in_bucket = DiskFiles(tmp_path / "shared"), S3Files(_location(bucket, prefix="shared"))
    ours = key_on(date(2026, 1, 1))
    for store in (on_disk, in_bucket):
        await store.put(ours, b"x")
        assert await store.delete_before(date(2026, 1, 2), limit=10) == 1
    await in_bucket.aclose()
    listed = client.list_objects_v2(Bucket="hub", Prefix="shared/")["Contents"]
    client.close()
    assert {found["Key"] for found in listed} == set(names)
    assert (tmp_path / "shared" / "1999").is_dir()


async def test_a_store_without_a_prefix_keeps_to_its_keys(bucket: str) -> None:
    store, key = S3Files(_location(bucket)), file_key(TENANT, new_uuid())
    await store.put(key, b"x")
    assert await whole(store, key) == b"x"
    await store.delete(key)
    await store.aclose()


async def test_an_empty_store_has_nothing_to_remove(store: FileStore) -> None:
    assert await store.delete_before(date(2030, 1, 1), limit=10) == 0


async def test_a_key_that_leads_elsewhere_is_never_used(store: FileStore) -> None:
    keys = ("../../etc/passwd", "/etc/passwd", "2026-01-01/../x", "", "2026-01-01")
    for ask in (ask for key in keys for ask in (store.put(key, b"x"), whole(store, key), store.delete(key))):
        with pytest.raises(ValueError, match="not the key"):
            await ask


async def test_files_on_disk_are_for_their_owner_alone_and_leave_nothing_unfinished(tmp_path: Path) -> None:
    store = DiskFiles(tmp_path / "files")
    key = file_key(TENANT, new_uuid())
    await store.put(key, b"x")
    paths = [tmp_path / "files", *(tmp_path / "files").rglob("*")]
    assert [oct(path.stat().st_mode & 0o777) for path in paths] == ["0o700", "0o700", "0o700", "0o600"]


async def test_a_disk_that_takes_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("a file where the folder should be")
    store = DiskFiles(tmp_path / "files")
    with pytest.raises(FileStoreError, match="cannot be written") as caught:
        await store.put(file_key(TENANT, new_uuid()), b"x")
    assert caught.value.retry_after_s == 5


async def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DiskFiles(tmp_path / "files")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileStoreError, match="No space left"):
        await store.put(file_key(TENANT, new_uuid()), b"x")
    assert [names for _, _, names in os.walk(tmp_path) if names] == []


@pytest.mark.parametrize(
    "location",
    [
        S3Location(
            bucket="hub", endpoint_url="http://127.0.0.1:9", region="r", access_key_id="k", secret_access_key="s"
        ),
        S3Location(bucket="hub", endpoint_url="http://127.0.0.1:9", region="r"),
    ],
    ids=["nobody listens", "no keys"],
)
async def test_an_object_storage_that_is_not_there_is_told(
    location: S3Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setattr(s3, "_TRIES", 1)  # or it waits between them
    store = S3Files(location)
    for ask in (
        store.put(file_key(TENANT, new_uuid()), b"x"),
        whole(store, file_key(TENANT, new_uuid())),
        store.delete(file_key(TENANT, new_uuid())),
        store.delete_before(date(2026, 1, 1), limit=1),
    ):
        with pytest.raises(FileStoreError, match="The bucket hub"):
            await ask
    await store.aclose()


async def test_a_missing_bucket_is_told_and_is_no_missing_file(bucket: str) -> None:
    store = S3Files(
        S3Location(
            bucket="other",
            endpoint_url=bucket,
            region="us-east-1",
            access_key_id="k",
            secret_access_key="s",
            path_style=True,
        )
    )
    with pytest.raises(FileStoreError, match="NoSuchBucket"):
        await whole(store, file_key(TENANT, new_uuid()))
    await store.aclose()


def test_no_secret_is_shown() -> None:
    assert "swordfish" not in repr(S3Location(bucket="b", access_key_id="k", secret_access_key="swordfish"))
