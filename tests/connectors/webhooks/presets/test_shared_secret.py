from datetime import UTC, datetime

import pytest

from crossdock.connectors.webhooks import EventIdentity, identify, preset_for, read_document, sign, verify
from crossdock.connectors.webhooks.errors import InvalidSettingsError, MissingSignatureError
from crossdock.mapping.expressions import EvaluationError
from tests.connectors.webhooks.samples import NOW, SECRET, URL

BODY = b'{"at":7,"items":[{"id":1,"kind":"made","at":1763650000123},{"id":2,"kind":"gone","at":null}]}'


def test_any_header_may_hold_the_secret() -> None:
    preset = preset_for("shared_secret", {"header": "X-Gitlab-Token"})
    request = sign(preset, secret=SECRET, body=b"{}", url=URL, now=NOW)
    assert request.headers.get("x-gitlab-token") == SECRET
    assert preset.secret_headers == {"x-gitlab-token"}
    verify(preset, request=request, secrets=[SECRET], now=NOW)
    with pytest.raises(MissingSignatureError, match="X-Other"):
        verify(preset_for("shared_secret", {"header": "X-Other"}), request=request, secrets=[SECRET], now=NOW)


def test_settings_say_where_id_type_and_time_stand() -> None:
    preset = preset_for(
        "shared_secret",
        {
            "prefix": "Token ",
            "event_id": {"header": "X-Event-Id"},
            "event_type": {"expression": "items[0].kind"},
            "event_time": {"expression": "at", "unit": "s"},
        },
    )
    request = sign(preset, secret=SECRET, body=BODY, url=URL, now=NOW, headers={"X-Event-Id": "e-1"})
    verify(preset, request=request, secrets=[SECRET], now=NOW)
    found = identify(preset, request, read_document(preset, request).document)
    assert found == EventIdentity("e-1", "made", datetime(1970, 1, 1, 0, 0, 7, tzinfo=UTC))


@pytest.mark.parametrize("name", ["generic", "none", "shared_secret", "basic_auth"])
def test_a_list_in_the_body_is_split_into_events(name: str) -> None:
    preset = preset_for(
        name,
        {
            "events": "items[?kind != 'ping']",
            "event_id": {"expression": "id"},
            "event_type": {"expression": "kind"},
            "event_time": {"expression": "at", "unit": "ms"},
        },
    )
    request = sign(preset, secret=preset.signature.new_secret(), body=BODY, url=URL, now=NOW)
    events = preset.split(read_document(preset, request).document)
    assert events is not None
    assert [identify(preset, request, event) for event in events] == [
        EventIdentity("1", "made", datetime(2025, 11, 20, 14, 46, 40, 123000, tzinfo=UTC)),
        EventIdentity("2", "gone", None),
    ]


@pytest.mark.parametrize("document", [None, {}, {"items": None}, {"items": {"id": 1}}, {"items": "x"}, []])
def test_where_there_is_no_list_the_body_is_one_event(document: object) -> None:
    preset = preset_for("none", {"events": "items"})
    assert preset.split(document) is None  # type: ignore[arg-type]  # any JSON


def test_an_empty_list_is_no_event() -> None:
    assert preset_for("none", {"events": "items"}).split({"items": []}) == []


def test_without_the_setting_nothing_is_split() -> None:
    assert preset_for("none", {"event_id": {"expression": "id"}}).split([{"id": 1}]) is None


def test_an_expression_that_does_not_fit_says_so() -> None:
    with pytest.raises(EvaluationError):
        preset_for("none", {"events": "sort(items)"}).split({"items": [1, "a"]})


@pytest.mark.parametrize(
    ("settings", "pointers"),
    [
        ({"header": "a b"}, ["/settings/header"]),
        ({"prefix": "x" * 21}, ["/settings/prefix"]),
        ({"events": "items["}, ["/settings/events"]),
        ({"event_time": {"expression": "at", "unit": "days"}}, ["/settings/event_time/unit"]),
        ({"event_id": {}}, ["/settings/event_id"]),
        ({"secret": "x"}, ["/settings/secret"]),
        # All events of one request would have the header's id, and all but one be taken for repetitions.
        ({"events": "items", "event_id": {"header": "X-Id"}}, ["/settings"]),
    ],
)
def test_faults_in_the_settings_are_named_by_place(settings: object, pointers: list[str]) -> None:
    with pytest.raises(InvalidSettingsError) as caught:
        preset_for("shared_secret", settings)
    assert [fault.pointer for fault in caught.value.faults] == pointers
