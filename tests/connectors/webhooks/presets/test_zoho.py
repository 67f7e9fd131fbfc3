from datetime import UTC, datetime

import pytest

from crossdock.connectors.webhooks import EventIdentity, InboundRequest, identify, presets, read_document, sign
from crossdock.connectors.webhooks.errors import InvalidBodyError
from tests.connectors.webhooks.samples import NOW, SECRET, URL, changed
from tests.connectors.webhooks.token_samples import ZOHO

PRESET = presets()["zoho"]


def _signed(body: bytes = ZOHO) -> InboundRequest:
    return sign(PRESET, secret=SECRET, body=body, url=URL, now=NOW)


def _identity(request: InboundRequest) -> EventIdentity:
    return identify(PRESET, request, read_document(PRESET, request).document)


def test_a_notification_is_named_by_channel_records_operation_and_time() -> None:
    assert _identity(_signed()) == EventIdentity(
        "1000000068001:5725767000000524157,5725767000000524158:update:1763650000123",
        "zoho.Leads.update",
        datetime(2025, 11, 20, 14, 46, 40, 123000, tzinfo=UTC),
    )


def test_another_rotation_of_the_secret_is_the_same_event() -> None:
    again = sign(PRESET, secret="another-secret-of-ours", body=ZOHO, url=URL, now=NOW)
    assert _identity(again) == _identity(_signed())


@pytest.mark.parametrize("missing", [b'"channel_id"', b'"ids"', b'"operation"', b'"server_time"'])
def test_with_half_an_id_there_is_none(missing: bytes) -> None:
    request = _signed()
    assert _identity(changed(request, body=request.body.replace(missing, b'"x"'))).id is None


def test_a_hundred_records_make_an_id_that_can_be_stored() -> None:
    ids = ",".join(f'"57257670000005{number:05}"' for number in range(100)).encode()
    one = _identity(_signed(ZOHO.replace(b'"5725767000000524157", "5725767000000524158"', ids))).id
    assert one is not None
    assert one.startswith("sha256:")


def test_the_document_is_all_but_the_secret() -> None:
    document = read_document(PRESET, _signed()).document
    assert isinstance(document, dict)
    assert "token" not in document
    assert document["affected_fields"] == [{"5725767000000524157": ["Last_Name", "Email"]}]


def test_what_is_no_object_cannot_be_signed() -> None:
    with pytest.raises(InvalidBodyError):
        _signed(b"[]")
