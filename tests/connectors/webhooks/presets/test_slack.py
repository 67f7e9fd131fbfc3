import json
from datetime import UTC, datetime
from urllib.parse import quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slack_sdk.signature import Clock, SignatureVerifier

from crossdock.connectors.webhooks import Answer, EventIdentity, presets, read_document, sign, verify
from crossdock.connectors.webhooks.errors import WrongSignatureError
from tests.connectors.webhooks.bodies import SLACK, SLASH_COMMAND
from tests.connectors.webhooks.presets.reading import identities_of, webhook
from tests.connectors.webhooks.samples import FORM, NOW, SECRET, URL

PRESET = presets()["slack"]
VECTOR_SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
VECTOR_TIME = 1531420618
VECTOR_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
VECTOR = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"


class _Stopped(Clock):
    def now(self) -> float:
        return NOW.timestamp()


SDK = SignatureVerifier(SECRET, clock=_Stopped())


def test_the_vector_that_slack_publishes_is_accepted() -> None:
    headers = [("X-Slack-Signature", VECTOR), ("X-Slack-Request-Timestamp", str(VECTOR_TIME))]
    request = webhook(VECTOR_BODY, *headers, content_type=FORM)
    at = datetime.fromtimestamp(VECTOR_TIME, tz=UTC)
    assert verify(PRESET, request=request, secrets=[VECTOR_SECRET], now=at).timestamp == at


@given(st.text(max_size=200))
def test_slacks_library_and_we_accept_what_the_other_signs(body: str) -> None:
    time = str(int(NOW.timestamp()))
    theirs = SDK.generate_signature(timestamp=time, body=body)
    assert theirs is not None
    request = webhook(body.encode(), ("X-Slack-Signature", theirs), ("X-Slack-Request-Timestamp", time))
    assert verify(PRESET, request=request, secrets=[SECRET], now=NOW).secret_index == 0
    ours = sign(PRESET, secret=SECRET, body=body.encode(), url=URL, now=NOW)
    assert SDK.is_valid_request(body.encode(), dict(ours.headers.items()))
    assert not SDK.is_valid_request(body.encode() + b" ", dict(ours.headers.items()))


def test_another_version_of_the_signature_is_not_taken() -> None:
    request = webhook(VECTOR_BODY, ("X-Slack-Signature", VECTOR), ("X-Slack-Request-Timestamp", str(VECTOR_TIME + 1)))
    with pytest.raises(WrongSignatureError):
        verify(PRESET, request=request, secrets=[VECTOR_SECRET], now=datetime.fromtimestamp(VECTOR_TIME, tz=UTC))


def test_the_challenge_is_answered_as_text() -> None:
    body = json.dumps(
        {"token": "t", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7", "type": "url_verification"}
    )
    request = webhook(body.encode())
    answer = PRESET.reply(request, read_document(PRESET, request).document)
    assert answer == Answer(200, b"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7", "text/plain")
    assert PRESET.handshake(request) is None


@pytest.mark.parametrize(
    "document",
    [{"type": "event_callback", "challenge": "x"}, {"type": "url_verification"}, {"challenge": "x"}, [], None],
)
def test_nothing_else_is_answered_as_a_challenge(document: object) -> None:
    request = webhook(json.dumps(document).encode())
    assert PRESET.reply(request, read_document(PRESET, request).document) is None


def test_what_slack_would_show_to_a_person_is_empty() -> None:
    assert PRESET.accepted == Answer(200, b"", None)


def test_an_event_has_its_id_the_inner_type_and_its_time() -> None:
    at = datetime(2026, 3, 14, 15, 9, 20, 5, tzinfo=UTC)
    assert identities_of(PRESET, webhook(SLACK)) == [EventIdentity("Ev08MFMKH6", "slack.app_mention", at)]
    plain = json.loads(SLACK)
    del plain["event"]["event_ts"]
    (found,) = identities_of(PRESET, webhook(json.dumps(plain).encode()))
    assert found.time == at.replace(microsecond=0)


def test_a_slash_command_is_known_by_its_trigger() -> None:
    (found,) = identities_of(PRESET, webhook(SLASH_COMMAND, content_type=FORM))
    assert found == EventIdentity("13345224609.738", "slack.slash_command")


def test_interaction_is_the_json_inside_the_form() -> None:
    payload = {
        "type": "block_actions",
        "trigger_id": "12466734323.1395872398",
        "actions": [{"action_id": "WaXA", "value": "ünï & co", "action_ts": "1773500966.840180"}],
    }
    request = webhook(f"payload={quote_plus(json.dumps(payload))}".encode(), content_type=FORM)
    assert read_document(PRESET, request).document == payload
    at = NOW.replace(microsecond=840_180)
    assert identities_of(PRESET, request) == [EventIdentity("12466734323.1395872398", "slack.block_actions", at)]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"type": "view_submission", "trigger_id": "1.2"}, EventIdentity("1.2", "slack.view_submission")),
        (
            {"type": "shortcut", "trigger_id": "1.2", "action_ts": "1773500966.0"},
            EventIdentity("1.2", "slack.shortcut", NOW),
        ),
        ({"type": "block_actions", "actions": []}, EventIdentity(None, "slack.block_actions")),
        ({"type": "app_rate_limited"}, EventIdentity(None, "slack.app_rate_limited")),
        ([], EventIdentity()),
    ],
)
def test_other_payloads_have_what_they_say(payload: object, expected: EventIdentity) -> None:
    request = webhook(urlencode({"payload": json.dumps(payload)}).encode(), content_type=FORM)
    assert identities_of(PRESET, request) == [expected]
