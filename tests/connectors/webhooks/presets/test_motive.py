from datetime import UTC, datetime

import pytest

from crossdock.connectors.webhooks import Answer, presets, verify
from crossdock.connectors.webhooks.errors import WrongSignatureError
from tests.connectors.webhooks.bodies import MOTIVE
from tests.connectors.webhooks.presets.reading import events_of, identities_of, webhook
from tests.connectors.webhooks.samples import NOW

PRESET = presets()["motive"]
KEY = "d9d36bea41c44ae49d1bfc4a48ba2abe"
TEST_MESSAGE = b'["fault_code_closed"]'
SIGNATURE = "f04a8386a21a6cba0447024e83b3f0983352bb72"


def test_the_vector_of_the_test_message_is_accepted_and_is_no_event() -> None:
    request = webhook(TEST_MESSAGE, ("X-KT-Webhook-Signature", SIGNATURE))
    assert verify(PRESET, request=request, secrets=[KEY], now=NOW).secret_index == 0
    assert events_of(PRESET, request) == []


def test_the_signature_used_as_key_as_in_the_vendors_example_is_refused() -> None:
    request = webhook(TEST_MESSAGE, ("X-KT-Webhook-Signature", SIGNATURE))
    with pytest.raises(WrongSignatureError):
        verify(PRESET, request=request, secrets=[SIGNATURE], now=NOW)


def test_a_refusal_is_a_403() -> None:
    assert PRESET.refused == Answer(403, b"", None)


def test_one_event_or_a_list_of_them() -> None:
    (one,) = identities_of(PRESET, webhook(MOTIVE))
    assert one.type == "motive.fault_code_opened"
    assert one.time == datetime(2026, 11, 20, 14, 2, 11, tzinfo=UTC)
    assert identities_of(PRESET, webhook(b"[" + MOTIVE + b"]")) == [one]
    located = b'{"action":"vehicle_location_updated","located_at":"2026-11-20T14:02:12Z","vehicle_id":7}'
    both = identities_of(PRESET, webhook(b"[" + MOTIVE + b"," + located + b"]"))
    assert [found.type for found in both] == ["motive.fault_code_opened", "motive.vehicle_location_updated"]
    assert both[1].time == datetime(2026, 11, 20, 14, 2, 12, tzinfo=UTC)


def test_the_same_content_is_the_same_event_however_it_is_written() -> None:
    (first,) = identities_of(PRESET, webhook(b'{"action":"x","id":1}'))
    (again,) = identities_of(PRESET, webhook(b'{ "id": 1, "action": "x" }'))
    (other,) = identities_of(PRESET, webhook(b'{"action":"x","id":2}'))
    assert first.id == again.id != other.id
    assert (first.id or "").startswith("sha256:")
    assert identities_of(PRESET, webhook(b"7"))[0].id is None
