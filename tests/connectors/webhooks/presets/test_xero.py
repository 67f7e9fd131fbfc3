import json
from datetime import UTC, datetime

import pytest

from crossdock.connectors.webhooks import Answer, EventIdentity, presets, verify
from crossdock.connectors.webhooks.errors import WrongSignatureError
from tests.connectors.webhooks.bodies import XERO
from tests.connectors.webhooks.presets.reading import events_of, identities_of, webhook
from tests.connectors.webhooks.samples import NOW

PRESET = presets()["xero"]
INTENT = b'{"events":[],"lastEventSequence":0,"firstEventSequence":0,"entropy":"S0m3r4Nd0mt3xt"}'
KEY = "xero-signing-key"
# Made with openssl: printf '%s' "$INTENT" | openssl dgst -sha256 -hmac xero-signing-key -binary | base64
SIGNATURE = "EkNicfAnP7ZmVj1Gx2W6KMRG+2zJEENIcpwkj7kjAAQ="


def test_the_intent_to_receive_is_proven_and_brings_no_event() -> None:
    request = webhook(INTENT, ("x-xero-signature", SIGNATURE))
    assert verify(PRESET, request=request, secrets=[KEY], now=NOW).secret_index == 0
    assert events_of(PRESET, request) == []
    with pytest.raises(WrongSignatureError):
        verify(PRESET, request=request, secrets=[KEY + "x"], now=NOW)


def test_right_and_wrong_are_answered_without_a_body() -> None:
    assert PRESET.accepted == Answer(200, b"", None)
    assert PRESET.refused == Answer(401, b"", None)


def test_an_event_is_known_by_all_that_it_says_and_its_time_is_utc() -> None:
    expected = EventIdentity(
        "c2cc9b6e-9458-4c7d-93cc-f02b81b0594f:INVOICE:UPDATE:717f2bfc-c6d4-41fd-b238-3f2f0c0cf777:2026-06-21T01:15:39.902",
        "xero.invoice.update",
        datetime(2026, 6, 21, 1, 15, 39, 902_000, tzinfo=UTC),
    )
    assert identities_of(PRESET, webhook(XERO)) == [expected]
    assert events_of(PRESET, webhook(XERO)) == json.loads(XERO)["events"]


def test_two_events_are_two_and_half_an_event_has_no_id() -> None:
    first = json.loads(XERO)["events"][0]
    second = first | {"resourceId": "0"}
    body = json.dumps({"events": [first, second, {"eventType": "CREATE"}]}).encode()
    ids = [found.id for found in identities_of(PRESET, webhook(body))]
    assert ids[0] != ids[1]
    assert ids[2] is None
    assert events_of(PRESET, webhook(b"{}")) == [{}]
