import pytest

from crossdock.connectors.webhooks import (
    Answer,
    EventIdentity,
    Headers,
    InboundRequest,
    identify,
    presets,
    read_document,
    sign,
    verify,
)
from tests.connectors.webhooks.samples import NOW, SECRET, URL, changed

PRESET = presets()["google_calendar"]
# As Google's guide to push notifications shows it.
PUSH = InboundRequest(
    url=URL,
    headers=Headers(
        [
            ("Content-Type", "application/json; utf-8"),
            ("Content-Length", "0"),
            ("X-Goog-Channel-ID", "4ba78bf0-6a47-11e2-bcfd-0800200c9a66"),
            ("X-Goog-Channel-Token", SECRET),
            ("X-Goog-Channel-Expiration", "Tue, 19 Nov 2013 01:13:52 GMT"),
            ("X-Goog-Resource-ID", "ret08u3rv24htgh289g"),
            ("X-Goog-Resource-URI", "https://www.googleapis.com/calendar/v3/calendars/my_calendar@gmail.com/events"),
            ("X-Goog-Resource-State", "exists"),
            ("X-Goog-Message-Number", "10"),
        ]
    ),
    body=b"",
)


def test_a_push_is_accepted_by_its_channels_token() -> None:
    assert verify(PRESET, request=PUSH, secrets=[SECRET], now=NOW).secret_index == 0


def test_the_headers_are_the_document() -> None:
    assert read_document(PRESET, PUSH).document == {
        "channelId": "4ba78bf0-6a47-11e2-bcfd-0800200c9a66",
        "channelExpiration": "Tue, 19 Nov 2013 01:13:52 GMT",
        "resourceId": "ret08u3rv24htgh289g",
        "resourceUri": "https://www.googleapis.com/calendar/v3/calendars/my_calendar@gmail.com/events",
        "resourceState": "exists",
        "messageNumber": "10",
    }


@pytest.mark.parametrize("state", ["exists", "not_exists"])
def test_the_id_is_channel_and_message_and_the_type_the_state(state: str) -> None:
    request = changed(PUSH, headers={"X-Goog-Resource-State": state})
    document = read_document(PRESET, request).document
    assert PRESET.reply(request, document) is None
    assert identify(PRESET, request, document) == EventIdentity(
        "4ba78bf0-6a47-11e2-bcfd-0800200c9a66:10", f"google_calendar.{state}"
    )


def test_the_message_that_opens_a_channel_is_answered_and_no_event() -> None:
    request = changed(PUSH, headers={"X-Goog-Resource-State": "sync"})
    assert PRESET.reply(request, read_document(PRESET, request).document) == Answer(status=200)


def test_without_its_headers_there_is_neither_id_nor_type() -> None:
    request = InboundRequest(url=URL, body=b"")
    assert identify(PRESET, request, read_document(PRESET, request).document) == EventIdentity()


def test_what_is_signed_is_a_whole_push() -> None:
    event = EventIdentity("channel:7", "google_calendar.not_exists")
    request = sign(PRESET, secret=SECRET, body=b"", url=URL, now=NOW, event=event)
    assert identify(PRESET, request, read_document(PRESET, request).document) == event
    made_up = sign(PRESET, secret=SECRET, body=b"", url=URL, now=NOW)
    assert identify(PRESET, made_up, read_document(PRESET, made_up).document).type == "google_calendar.exists"
