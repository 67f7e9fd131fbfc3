import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime

import pytest

from crossdock.connectors.webhooks import EventIdentity, presets, verify
from crossdock.connectors.webhooks.errors import WrongSignatureError
from tests.connectors.webhooks.bodies import QUILTT
from tests.connectors.webhooks.presets.reading import events_of, identities_of, webhook
from tests.connectors.webhooks.samples import NOW, SECRET

PRESET = presets()["quiltt"]
TIME = str(int(NOW.timestamp()))


@pytest.mark.parametrize(("version", "right"), [("1", True), ("", False), ("2", False), ("1.", False)])
def test_signed_are_the_version_the_time_and_the_body_without_separators(version: str, *, right: bool) -> None:
    content = version.encode() + TIME.encode() + QUILTT
    signature = base64.b64encode(hmac.new(SECRET.encode(), content, hashlib.sha256).digest()).decode()
    request = webhook(QUILTT, ("Quiltt-Signature", signature), ("Quiltt-Timestamp", TIME))
    if right:
        assert verify(PRESET, request=request, secrets=[SECRET], now=NOW).timestamp == NOW
        return
    with pytest.raises(WrongSignatureError):
        verify(PRESET, request=request, secrets=[SECRET], now=NOW)


def test_each_event_knows_its_environment() -> None:
    sent = json.loads(QUILTT)
    sent["events"].append({"id": "evt_2", "at": "2026-11-01T02:04:38Z", "type": "balance.created"})
    request = webhook(json.dumps(sent).encode())
    assert events_of(PRESET, request) == [event | {"environment": sent["environment"]} for event in sent["events"]]
    assert identities_of(PRESET, request) == [
        EventIdentity(
            "evt_12sDfIGkY96vVvNvTqNfn9", "quiltt.profile.ready", datetime(2026, 11, 1, 2, 4, 37, tzinfo=UTC)
        ),
        EventIdentity("evt_2", "quiltt.balance.created", datetime(2026, 11, 1, 2, 4, 38, tzinfo=UTC)),
    ]


@pytest.mark.parametrize(
    ("body", "events"),
    [(b'{"events":[]}', []), (b"{}", [{}]), (b'{"events":[7]}', [7]), (b'{"events":{}}', [{"events": {}}])],
)
def test_what_is_built_otherwise_is_kept_and_nothing_is_no_event(body: bytes, events: list[object]) -> None:
    assert events_of(PRESET, webhook(body)) == events
