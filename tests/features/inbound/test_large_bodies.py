import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from crossdock.connectors.webhooks import BodyLimits
from crossdock.db.engine import Database
from crossdock.features.inbound.bodies import BodyPolicy
from crossdock.features.inbound.schemas import EndpointCreated, EndpointIn
from crossdock.files.disk import DiskFiles
from crossdock.files.store import FileStoreError
from crossdock.kit.ids import IdKind, format_id
from tests.connectors.webhooks.test_multipart_bodies import GIVEN, Part, multipart
from tests.features.inbound.conftest import ACTOR, MAX_BODY_BYTES, MAX_UPLOAD_BYTES, Hub, add_tenant, open_hub
from tests.serving import Answer
from tests.waiting import eventually

MULTIPART = {"Content-Type": GIVEN}
SMALL_ROWS = BodyPolicy(inline_bytes=1_000, limits=BodyLimits(max_files=2))
LARGE = json.dumps({"id": "big", "text": "x" * 5_000}, indent=1).encode()
FILES = (bytes(range(256)) * 700, "Zoë\r\n--\r\n".encode())
FORM = multipart(
    Part("subject", b"two files"),
    Part("one", FILES[0], 'scan "1".pdf'.replace('"', "%22"), "application/pdf"),
    Part("other", FILES[1], "<script>.html", "text/html"),
)


class _Watched(DiskFiles):
    """A store on disk that can fail, or keep whoever writes waiting."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder
        self.is_down = False
        self.dies_after_writing = False
        self.writing = 0
        self.may_write = asyncio.Event()
        self.may_write.set()

    async def put(self, key: str, content: bytes) -> None:
        self.writing += 1
        await self.may_write.wait()
        if self.is_down:
            raise FileStoreError
        await super().put(key, content)
        if self.dies_after_writing:
            raise RuntimeError("killed")

    @property
    def stored(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]


@pytest.fixture
def files(tmp_path: Path) -> _Watched:
    return _Watched(tmp_path / "files")


@pytest.fixture
async def hub(database: Database, files: _Watched) -> AsyncIterator[Hub]:
    async with open_hub(database, files=files, policy=SMALL_ROWS) as opened:
        yield opened


async def send_form(hub: Hub, endpoint: EndpointCreated, body: bytes = FORM, **more: str) -> Answer:
    return await hub.send(endpoint, body, headers=MULTIPART | more)


async def receipt_path(hub: Hub) -> str:
    return f"/api/v1/webhooks/receipts/{format_id(IdKind.RECEIPT, (await hub.only_receipt())['id'])}"


async def event_data(hub: Hub) -> Any:
    (event,) = await hub.rows("SELECT payload FROM events")
    return json.loads(event["payload"])


async def test_files_of_a_multipart_webhook_are_downloaded_byte_for_byte(hub: Hub, files: _Watched) -> None:
    endpoint = await hub.endpoint("generic")
    assert (await send_form(hub, endpoint)).json == {"status": "received"}
    receipt = await hub.only_receipt()
    assert (receipt["body"], receipt["body_bytes"]) == (b"", len(FORM))
    assert [path.read_bytes() for path in files.stored] == [FORM]
    await hub.work_off()
    data = await event_data(hub)
    assert data["subject"] == "two files"
    assert [data["one"]["filename"], data["other"]["filename"]] == ['scan "1".pdf', "<script>.html"]
    for name, content in zip(("one", "other"), FILES, strict=True):
        got = await hub.api.get(data[name]["url"])
        assert (got.status, got.body) == (200, content)
        assert got.headers["Content-Length"] == str(len(content)) == str(data[name]["size_bytes"])
        assert got.headers["Content-Type"] == "application/octet-stream"
        assert got.headers["X-Content-Type-Options"] == "nosniff"
        assert got.headers["Content-Disposition"].startswith("attachment; ")
    assert (await hub.api.get(f"{await receipt_path(hub)}/body")).body == FORM


async def test_a_name_of_a_file_cannot_change_the_answers_headers(hub: Hub) -> None:
    await send_form(hub, await hub.endpoint("generic"), multipart(Part("f", b"1", 'a%22; filename="b", é;.exe')))
    answer = await hub.api.get(f"{await receipt_path(hub)}/files/0")
    (named,) = answer.headers.getall("Content-Disposition")  # type: ignore[attr-defined]  # aiohttp's headers
    assert named.count('"') == 2


async def test_a_large_body_is_processed_shown_and_downloaded_as_it_came(hub: Hub) -> None:
    endpoint = await hub.endpoint("generic")
    await hub.send(endpoint, LARGE)
    receipt = await hub.only_receipt()
    assert (receipt["body"], receipt["body_bytes"]) == (b"", len(LARGE))
    path = await receipt_path(hub)
    shown = (await hub.api.get(path)).json
    assert (shown["body_base64"], shown["body_url"], shown["size_bytes"]) == (None, f"{path}/body", len(LARGE))
    listed = (await hub.api.get(f"/api/v1/webhooks/endpoints/{endpoint.id}/receipts")).json["items"]
    assert [one["size_bytes"] for one in listed] == [len(LARGE)]
    assert (await hub.api.get(shown["body_url"])).body == LARGE
    await hub.work_off()
    (event,) = await hub.rows("SELECT payload FROM events")
    assert event["payload"].encode() == LARGE if isinstance(event["payload"], str) else event["payload"] == LARGE


async def test_an_ordered_endpoint_works_large_bodies_off_in_their_turn(hub: Hub) -> None:
    endpoint = await hub.endpoint("generic", ordered=True)
    for number in range(6):
        text = "x" * (5_000 if number % 2 else 5)
        await hub.send(endpoint, json.dumps({"number": number, "text": text}).encode())
    await hub.work_off()
    events = await hub.rows("SELECT payload FROM events ORDER BY tableoid, ctid")
    assert [json.loads(event["payload"])["number"] for event in events] == list(range(6))


async def test_small_bodies_need_no_store(hub: Hub, files: _Watched) -> None:
    files.is_down = True
    endpoint = await hub.endpoint("generic")
    assert (await hub.send(endpoint, b"{}")).status == 200
    assert (await send_form(hub, endpoint, multipart(Part("a", b"1")))).status == 200
    await hub.work_off()
    assert files.writing == 0
    assert await hub.count("events") == 2


async def test_a_body_without_a_length_is_taken_in_by_its_true_size(hub: Hub, files: _Watched) -> None:
    endpoint = await hub.endpoint("none")

    async def in_pieces(body: bytes) -> AsyncIterator[bytes]:
        for at in range(0, len(body), 700):
            yield body[at : at + 700]

    for body in (b"{}", LARGE):
        sent = await hub.api.post("/webhooks/acme/none", body=in_pieces(body), headers={"Content-Type": "text/plain"})
        assert sent.status == 200
    assert [path.read_bytes() for path in files.stored] == [LARGE]
    assert endpoint.path == "none"


async def test_without_its_store_a_large_body_is_refused_and_nothing_is_stored(hub: Hub, files: _Watched) -> None:
    endpoint = await hub.endpoint("generic")
    files.is_down = True
    answer = await hub.send(endpoint, LARGE)
    assert (answer.status, answer.json["code"], answer.headers["Retry-After"]) == (503, "file_store_unavailable", "5")
    assert await hub.stored() == {}
    files.is_down = False
    assert (await hub.send(endpoint, LARGE)).status == 200


async def test_dying_between_file_and_row_leaves_a_file_that_goes_with_its_day(hub: Hub, files: _Watched) -> None:
    files.dies_after_writing = True
    assert (await hub.send(await hub.endpoint("generic"), LARGE)).status == 500
    assert await hub.stored() == {}
    assert len(files.stored) == 1
    assert await files.delete_before(hub.clock.now().date() + timedelta(days=2), limit=10) == 1
    assert files.stored == []


async def test_a_body_that_came_before_is_not_kept_twice(hub: Hub, files: _Watched) -> None:
    endpoint = await hub.endpoint("generic", event_id_expression="body.id")
    answers = [(await hub.send(endpoint, LARGE)).json["status"] for _ in range(2)]
    assert answers == ["received", "duplicate"]
    assert len(files.stored) == 1


async def test_a_stored_body_that_is_gone_is_told_and_its_receipt_dies_with_the_reason(
    hub: Hub, files: _Watched
) -> None:
    await hub.send(await hub.endpoint("generic"), LARGE)
    files.stored[0].unlink()
    answer = await hub.api.get(f"{await receipt_path(hub)}/body")
    assert (answer.status, answer.json["code"]) == (404, "stored_file_not_found")
    await hub.work_off()
    receipt = await hub.only_receipt()
    assert receipt["state"] == "dead"
    assert "file store does not have this body" in receipt["error"]


async def test_another_tenant_finds_neither_body_nor_file(hub: Hub) -> None:
    await send_form(hub, await hub.endpoint("generic"))
    path = await receipt_path(hub)
    other = hub.api.with_key(str(await add_tenant(hub.database, "rival")))
    for below in ("/body", "/files/0", "/files/7"):
        answer = await other.get(path + below)
        assert (answer.status, answer.json["code"]) == (404, "receipt_not_found")
    for key, status in ((f"{hub.tenant_id} webhook:read", 200), (f"{hub.tenant_id} event:read", 403)):
        assert (await hub.api.with_key(key).get(f"{path}/files/0")).status == status


@pytest.mark.parametrize(("index", "status"), [("2", 404), ("-1", 422), ("x", 422)])
async def test_a_file_that_the_webhook_did_not_bring_is_not_there(hub: Hub, index: str, status: int) -> None:
    await send_form(hub, await hub.endpoint("generic"))
    assert (await hub.api.get(f"{await receipt_path(hub)}/files/{index}")).status == status


async def test_a_body_that_holds_no_files_has_none(hub: Hub) -> None:
    await hub.send(await hub.endpoint("generic"), b"{}")
    answer = await hub.api.get(f"{await receipt_path(hub)}/files/0")
    assert (answer.status, answer.json["code"]) == (404, "file_not_found")
    assert (await hub.api.get(f"{await receipt_path(hub)}/body")).body == b"{}"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (FORM[:-4], "Unexpected end"),
        (multipart(*[Part("f", b"1", "f")] * 3), "more than 2 files"),
        (multipart(Part("f", FORM, "f", GIVEN)), "a multipart body itself"),
    ],
)
async def test_a_multipart_body_that_cannot_be_read_is_accepted_and_dies_with_the_reason(
    hub: Hub, body: bytes, why: str
) -> None:
    assert (await send_form(hub, await hub.endpoint("generic"), body)).status == 200
    await hub.work_off()
    receipt = await hub.only_receipt()
    assert receipt["state"] == "dead"
    assert why in receipt["error"]
    assert (await hub.api.get(f"{await receipt_path(hub)}/body")).body == body


async def test_multipart_bodies_may_be_larger_than_others_up_to_their_own_limit(hub: Hub) -> None:
    endpoint = await hub.endpoint("generic")
    large = multipart(Part("f", b"x" * MAX_BODY_BYTES, "f"))
    assert (await send_form(hub, endpoint, large)).status == 200
    for content_type, size in (
        ("text/plain", len(large)),
        ("multipart/mixed", len(large)),
        (GIVEN, MAX_UPLOAD_BYTES + 1),
    ):
        head = f"POST /webhooks/acme/generic HTTP/1.1\r\nHost: h\r\nContent-Type: {content_type}\r\n"
        answer = await raw_request(hub, f"{head}Content-Length: {size}\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 413 ")


async def test_a_compressed_webhook_is_kept_as_it_came_and_read_as_it_was(hub: Hub) -> None:
    endpoint = await hub.endpoint("generic")
    packed = gzip.compress(b'{"a":   1}')
    assert (await hub.send(endpoint, packed, headers={"Content-Encoding": "gzip"})).status == 200
    assert (await hub.only_receipt())["body"] == packed
    await hub.work_off()
    assert await event_data(hub) == {"a": 1}
    assert (await hub.api.get(f"{await receipt_path(hub)}/body")).body == packed


async def test_files_are_found_in_a_compressed_body(hub: Hub) -> None:
    packed = gzip.compress(FORM)
    assert (await send_form(hub, await hub.endpoint("generic"), packed, **{"Content-Encoding": "gzip"})).status == 200
    for index, content in enumerate(FILES):
        assert (await hub.api.get(f"{await receipt_path(hub)}/files/{index}")).body == content


async def test_a_bomb_is_accepted_and_dies_without_going_off(hub: Hub) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    assert (await hub.send(await hub.endpoint("generic"), bomb, headers={"Content-Encoding": "gzip"})).status == 200
    await hub.work_off()
    assert "once it is decompressed" in (await hub.only_receipt())["error"]


async def test_another_content_coding_is_refused_with_those_that_are_taken(hub: Hub) -> None:
    endpoint = await hub.endpoint("generic")
    answer = await hub.send(endpoint, b"{}", headers={"Content-Encoding": "br"})
    assert (answer.status, answer.json["code"]) == (415, "unsupported_encoding")
    assert answer.headers["Accept-Encoding"] == "gzip, identity"
    assert await hub.stored() == {}
    assert (await hub.send(endpoint, b"{}", secret="another", headers={"Content-Encoding": "br"})).status == 401


async def test_more_large_bodies_than_have_a_place_are_sent_away_and_small_ones_are_not(
    database: Database, files: _Watched
) -> None:
    policy = BodyPolicy(inline_bytes=1_000, at_once=2, wait_s=0)
    async with open_hub(database, files=files, policy=policy) as hub:
        endpoint = await hub.endpoint("generic")
        files.may_write.clear()
        first = [asyncio.create_task(hub.send(endpoint, LARGE)) for _ in range(2)]
        await eventually(lambda: files.writing == 2)
        answer = await hub.send(endpoint, LARGE)
        assert (answer.status, answer.json["code"]) == (503, "too_many_large_bodies")
        assert answer.headers["Retry-After"] == "5"
        assert (await hub.send(endpoint, b"{}")).status == 200
        files.may_write.set()
        assert [answer.status for answer in await asyncio.gather(*first)] == [200, 200]
        assert (await hub.send(endpoint, LARGE)).status == 200


async def test_a_large_body_waits_a_while_for_its_place(database: Database, files: _Watched) -> None:
    policy = BodyPolicy(inline_bytes=1_000, at_once=1, wait_s=60)
    async with open_hub(database, files=files, policy=policy) as hub:
        endpoint = await hub.endpoint("generic")
        answers = await asyncio.gather(*(hub.send(endpoint, LARGE) for _ in range(5)))
        assert [answer.status for answer in answers] == [200] * 5


async def test_a_slow_sender_loses_its_place(database: Database, files: _Watched) -> None:
    policy = BodyPolicy(inline_bytes=1_000, at_once=1, patience_s=0.05)
    async with open_hub(database, files=files, policy=policy) as hub:
        await hub.endpoint("none")
        head = b"POST /webhooks/acme/none HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\n{"
        answer = await raw_request(hub, head)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"body_too_slow" in answer
        sent = await hub.api.post("/webhooks/acme/none", body=LARGE)
        assert sent.status == 200
        assert await hub.count("receipts") == 1


async def test_a_small_body_that_does_not_come_is_not_waited_for(database: Database) -> None:
    async with open_hub(database, policy=BodyPolicy(patience_s=0.05)) as hub:
        await hub.endpoint("none")
        head = b"POST /webhooks/acme/none HTTP/1.1\r\nHost: h\r\nContent-Length: 50\r\n\r\n{"
        assert b"body_too_slow" in await raw_request(hub, head)
        assert (await hub.api.post("/webhooks/acme/none", body=b"{}")).status == 200


async def test_one_tenants_large_bodies_leave_places_to_the_others(database: Database, files: _Watched) -> None:
    policy = BodyPolicy(inline_bytes=1_000, at_once=4, wait_s=0)
    async with open_hub(database, files=files, policy=policy) as hub:
        endpoint = await hub.endpoint("none")
        given = EndpointIn(name="Test", path="none", preset="none")
        await hub.endpoints.create(await add_tenant(database, "other"), ACTOR, given)
        files.may_write.clear()
        sent = [asyncio.create_task(hub.send(endpoint, LARGE)) for _ in range(3)]
        await eventually(lambda: files.writing == 3)
        assert (await hub.send(endpoint, LARGE)).json["code"] == "too_many_large_bodies"
        sent.append(asyncio.create_task(hub.api.post("/webhooks/other/none", body=LARGE)))
        await eventually(lambda: files.writing == 4)
        files.may_write.set()
        assert [answer.status for answer in await asyncio.gather(*sent)] == [200] * 4


async def raw_request(hub: Hub, sent: bytes) -> bytes:
    """What is answered to these bytes by the time the hub closes the connection."""
    address = urlsplit(hub.api.base_url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(sent)
    try:
        return await reader.read()
    finally:
        writer.close()
