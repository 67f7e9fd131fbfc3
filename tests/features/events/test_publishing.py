"""How requests are read; nothing here needs a database."""

from functools import cache
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.db.changes import ChangeFeed
from crossdock.db.engine import Database
from crossdock.features.events.catalogue import Catalogue
from crossdock.features.events.errors import InvalidEventError
from crossdock.features.events.publishing import Publication, Publishing, PublishRequest
from crossdock.kit.clock import SystemClock
from crossdock.kit.errors import InvalidInputError, PayloadTooLargeError

NOWHERE = "postgresql://nobody@127.0.0.1:1/none"
TENANT = UUID(int=7)
JSON = {"content-type": "application/json"}
CLOUD_EVENT = {"specversion": "1.0", "id": "A234-1234", "source": "/mycontext", "type": "com.example.someevent"}


@cache
def publishing() -> Publishing:
    """Publishing with a catalogue that knows the tenant has no types."""
    catalogue = Catalogue(database=Database(NOWHERE), changes=ChangeFeed(dsn=NOWHERE), require_known=False)
    catalogue._tenants[TENANT] = {}
    return Publishing(catalogue=catalogue, clock=SystemClock(), max_payload_bytes=1_048_576)


async def read(body: bytes, headers: dict[str, str] | None = None) -> Publication:
    return await publishing().read(PublishRequest(TENANT, JSON if headers is None else headers, body, "correlation"))


async def refusal(body: bytes, headers: dict[str, str] | None = None) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        await read(body, headers)
    return caught.value


def structured(**members: Any) -> bytes:
    return msgspec.json.encode(CLOUD_EVENT | members)


STRUCTURED = {"content-type": "application/cloudevents+json; charset=utf-8"}
BATCH = {"content-type": "application/cloudevents-batch+json"}


def binary(**headers: str) -> dict[str, str]:
    named = {f"ce-{name}": value for name, value in CLOUD_EVENT.items()}
    return named | {name.replace("_", "-"): value for name, value in headers.items()}


# Plain events


async def test_a_plain_event_keeps_what_it_was_given() -> None:
    body = b'{"type":"order.created","data":{"n":1},"source":"/shop","subject":"42","time":"2026-11-21T12:00:00+02:00"}'
    publication = await read(body)
    (event,) = publication.events
    assert (event.type, event.payload, event.source, event.subject) == ("order.created", b'{"n":1}', "/shop", "42")
    assert event.occurred_at.isoformat() == "2026-11-21T10:00:00+00:00"
    assert (publication.is_batch, publication.claim, publication.claims) == (False, None, [])


@pytest.mark.parametrize(
    "data",
    [
        b'{ "a" :\n\t[ 1 ,2 ]\r\n}',
        b"1.0",
        b"1E+2",
        b"-0",
        b"1e400",
        b"123456789012345678901234567890.000",
        b'"\\u00e9\\/\\ud83d\\ude00"',
        '"é😀"'.encode(),
        b'"\\u0000"',
        b'{"a":1,"a":2}',
        b"null",
        b"[]",
        b'"<&>"',
    ],
)
async def test_the_bytes_of_data_are_kept_as_they_came(data: bytes) -> None:
    (event,) = (await read(b'{"data" : ' + data + b' , "type":"a"}')).events
    assert event.payload == data
    (event, second) = (await read(b'[{"type":"a","data":' + data + b'},\n{"type":"b","data":2}]')).events
    assert (event.payload, second.payload) == (data, b"2")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=20))
async def test_whatever_json_comes_goes_on_unchanged(value: Any) -> None:
    data = msgspec.json.encode(value)
    (event,) = (await read(b'{"type":"a","data":' + data + b"}")).events
    assert event.payload == data


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"", ""),
        (b"nonsense", ""),
        (b"3", ""),
        (b'{"type":"a"}', ""),
        (b'{"data":1}', ""),
        (b'{"type":7,"data":1}', "/type"),
        (b'{"type":"a","data":1,"version":"x"}', "/version"),
        (b'{"type":"a","data":1,"version":0}', "/version"),
        (b'{"type":"a","data":1,"version":99999999999}', "/version"),
        (b'{"type":"a","data":1,"time":"yesterday"}', "/time"),
        (b'{"type":"a","data":1,"time":"0001-01-01T00:00:00+14:00"}', "/time"),
        (b'{"type":"a","data":1,"time":"9999-12-31T23:59:59-12:00"}', "/time"),
        (b'{"type":"a","data":1,"unknown":1}', ""),
        (b'{"type":"order created","data":1}', "/type"),
        (b'{"type":"","data":1}', "/type"),
        (b'{"type":"a","data":1,"subject":"' + b"x" * 1025 + b'"}', "/subject"),
        (b'{"type":"a","data":1,"source":"\\u0000"}', "/source"),
        (b'[{"type":"a","data":1},{"type":3,"data":1}]', "/1/type"),
        (b'[{"type":"a","data":1},{"type":"b c","data":1}]', "/1/type"),
        (b'[{"type":"a","data":1},{"data":1}]', "/1"),
        (b'{"type":"a","data":01}', ""),
        (b'{"type":"a","data":"\xff"}', ""),
        (b'\xff\xfe{"type":"a"}', ""),
        (b'{"type":"a","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}", ""),
    ],
)
async def test_a_faulty_event_is_refused_with_the_place_of_its_fault(body: bytes, pointer: str) -> None:
    error = await refusal(body)
    assert isinstance(error, InvalidEventError)
    assert [fault.pointer for fault in error.faults] == [pointer]


@pytest.mark.parametrize(("count", "accepted"), [(0, False), (1, True), (1_000, True), (1_001, False)])
async def test_a_batch_has_one_to_a_thousand_events(count: int, accepted: bool) -> None:  # noqa: FBT001 - a table's column
    body = b"[" + b",".join([b'{"type":"a","data":1}'] * count) + b"]"
    if accepted:
        publication = await read(body)
        assert (len(publication.events), publication.is_batch) == (count, True)
    else:
        await refusal(body)


async def test_data_over_a_mebibyte_is_too_large_in_a_batch_as_well() -> None:
    exact = b'{"type":"a","data":"' + b"x" * (1_048_576 - 2) + b'"}'
    assert len((await read(exact)).events) == 1
    with pytest.raises(PayloadTooLargeError, match="/1"):
        await read(b'[{"type":"a","data":1},' + exact.replace(b'x"', b'xx"') + b"]")


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "application/cloudevents+avro", ""])
async def test_another_content_type_is_refused_by_name(content_type: str) -> None:
    assert content_type in (await refusal(b"{}", {"content-type": content_type})).message


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "\x7f"])
async def test_an_idempotency_key_is_printable_and_not_too_long(key: str) -> None:
    await refusal(b'{"type":"a","data":1}', JSON | {"idempotency-key": key})


async def test_requests_are_the_same_when_body_and_content_type_are() -> None:
    async def fingerprint(body: bytes, **headers: str) -> bytes:
        claim = (await read(body, {"content-type": "application/json", "idempotency-key": "k", **headers})).claim
        assert claim is not None
        return claim.fingerprint

    body = b'{"type":"a","data":1}'
    assert await fingerprint(body) == await fingerprint(body, accept="*/*")
    assert await fingerprint(body) != await fingerprint(body + b" ")


# CloudEvents: the examples of the specification's JSON format and HTTP binding


async def test_a_structured_cloud_event_with_a_json_value() -> None:
    body = b"""{
    "specversion" : "1.0",
    "type" : "com.example.someevent",
    "source" : "/mycontext",
    "subject": null,
    "id" : "C234-1234-1234",
    "time" : "2018-04-05T17:31:00Z",
    "comexampleextension1" : "value",
    "comexampleothervalue" : 5,
    "datacontenttype" : "application/json",
    "data" : {
        "appinfoA" : "abc",
        "appinfoB" : 123,
        "appinfoC" : true
    }
}"""
    publication = await read(body, STRUCTURED)
    (event,) = publication.events
    assert event.payload.startswith(b'{\n        "appinfoA"')
    assert (event.type, event.source, event.content_type) == ("com.example.someevent", "/mycontext", "application/json")
    assert event.occurred_at.isoformat() == "2018-04-05T17:31:00+00:00"
    assert event.attributes == {
        "id": "C234-1234-1234",
        "comexampleextension1": "value",
        "comexampleothervalue": 5,
    }
    assert len(publication.claims) == 1


async def test_a_structured_cloud_event_with_text_that_is_not_json_keeps_the_text() -> None:
    body = structured(datacontenttype="application/xml", data='<much wow="xml"/>')
    (event,) = (await read(body, STRUCTURED)).events
    assert (event.payload, event.content_type) == (b'<much wow="xml"/>', "application/xml")


async def test_a_structured_cloud_event_with_binary_data() -> None:
    body = structured(datacontenttype="application/vnd.apache.thrift.binary", data_base64="AQIDBA==")
    (event,) = (await read(body, STRUCTURED)).events
    assert event.payload == b"\x01\x02\x03\x04"


async def test_a_cloud_event_needs_no_data() -> None:
    (event,) = (await read(structured(), STRUCTURED)).events
    assert event.payload == b"null"
    (event,) = (await read(b"", binary())).events
    assert (event.payload, event.content_type) == (b"null", "application/json")
    (event,) = (await read(b"", binary(content_type="text/plain"))).events
    assert event.payload == b""


async def test_a_batch_of_cloud_events() -> None:
    body = b"[" + structured(data=1) + b"," + structured(id="B", data_base64="Ag==", datacontenttype="x/y") + b"]"
    publication = await read(body, BATCH)
    assert [event.payload for event in publication.events] == [b"1", b"\x02"]
    assert len({claim.key for claim in publication.claims}) == 2


async def test_a_binary_cloud_event_has_its_attributes_in_headers() -> None:
    headers = binary(
        ce_time="2018-04-05T03:56:24Z",
        ce_subject="Euro%20%E2%82%AC%20%F0%9F%98%80",
        ce_comexample='"quoted \\"text\\""',
        content_type="application/json; charset=utf-8",
    )
    (event,) = (await read(b'{ "n": 1 }', headers)).events
    assert (event.payload, event.content_type) == (b'{ "n": 1 }', "application/json")
    assert event.subject == "Euro € 😀"
    assert event.attributes == {"id": "A234-1234", "comexample": 'quoted "text"'}


async def test_a_binary_cloud_event_may_hold_any_bytes() -> None:
    (event,) = (await read(b"\xff\x00", binary(content_type="image/png"))).events
    assert (event.payload, event.content_type) == (b"\xff\x00", "image/png")


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"specversion": "0.3"}, "/specversion"),
        ({"id": ""}, "/id"),
        ({"id": 7}, "/id"),
        ({"source": None}, "/source"),
        ({"type": "not a type"}, "/type"),
        ({"time": "noon"}, "/time"),
        ({"time": 5}, "/time"),
        ({"subject": 5}, "/subject"),
        ({"datacontenttype": 5}, "/datacontenttype"),
        ({"datacontenttype": "text/plain\r\nx-forged: 1"}, "/datacontenttype"),
        ({"datacontenttype": "application/json\r\nx-forged: 1"}, "/datacontenttype"),
        ({"datacontenttype": "application/json\n"}, "/datacontenttype"),
        ({"datacontenttype": " application/vnd.x+json"}, "/datacontenttype"),
        ({"datacontenttype": "text/plain; x=\x01"}, "/datacontenttype"),
        ({"datacontenttype": "text/plain; x=é"}, "/datacontenttype"),
        ({"datacontenttype": "text"}, "/datacontenttype"),
        ({"data": 1, "data_base64": "AQ=="}, "/data"),
        ({"data_base64": "not base64"}, "/data_base64"),
        ({"data_base64": 7}, "/data_base64"),
        ({"data_base64": "ew==", "datacontenttype": "application/vnd.x+json"}, "/data"),
        ({"Upper-Case": "x"}, ""),
        ({"extension": "\x00"}, ""),
        ({"extension": "x" * 20_000}, ""),
    ],
)
async def test_a_faulty_cloud_event_is_refused_with_the_place_of_its_fault(
    changes: dict[str, Any], pointer: str
) -> None:
    error = await refusal(structured(**changes), STRUCTURED)
    assert [fault.pointer for fault in error.faults] == [pointer]
    error = await refusal(b"[" + structured() + b"," + structured(**changes) + b"]", BATCH)
    assert [fault.pointer for fault in error.faults] == [f"/1{pointer}"]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"{", binary(content_type="application/json")),
        (b"{", binary(content_type="application/vnd.x+json")),
        (b"\xff", binary(content_type="application/json")),
        (b"x", binary(content_type="text/plain; x=\xe9")),
        (b"x", binary(content_type="none")),
        (b"1", binary(ce_data="2")),
        (b"1", binary(ce_specversion="2.0")),
        (b"1", {"ce-specversion": "1.0", "content-type": "application/json"}),
    ],
)
async def test_a_faulty_binary_cloud_event_is_refused(body: bytes, headers: dict[str, str]) -> None:
    await refusal(body, headers)


@pytest.mark.parametrize("media_type", ["text/plain; charset=utf-8", "image/svg+xml", 'x/y;a="b; c"', "Text/CSV"])
async def test_a_cloud_events_data_keeps_its_media_type(media_type: str) -> None:
    (event,) = (await read(structured(data_base64="AQ==", datacontenttype=media_type), STRUCTURED)).events
    assert event.content_type == media_type
    (event,) = (await read(b"1", binary(content_type=media_type))).events
    assert event.content_type == media_type


async def test_a_cloud_event_is_named_by_its_source_and_id_together() -> None:
    async def name(**changes: Any) -> str:
        (claim,) = (await read(structured(**changes), STRUCTURED)).claims
        return claim.key

    assert await name() == await name(type="another.type", data=1)
    assert await name() != await name(id="another")
    assert await name() != await name(source="/another")
    assert await name(source="a", id="bc") != await name(source="ab", id="c")


async def test_an_idempotency_key_goes_before_a_cloud_events_name() -> None:
    publication = await read(structured(), STRUCTURED | {"idempotency-key": "k"})
    assert publication.claim is not None
    assert publication.claims == []
