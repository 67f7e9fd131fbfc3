import json
from typing import Any

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
from crossdock.connectors.webhooks.errors import InvalidBodyError, MissingSignatureError, WrongSignatureError
from tests.connectors.webhooks.samples import NOW, OTHER_SECRET, SECRET, URL
from tests.connectors.webhooks.token_samples import GRAPH

PRESET = presets()["microsoft_graph"]
TOKEN = "Validation: Testing client application reachability, Request-Id: 1e61b1c7"
CHANGE: dict[str, Any] = json.loads(GRAPH)["value"][0]


def _request(*entries: dict[str, Any], **more: Any) -> InboundRequest:
    body = json.dumps({"value": entries, **more}).encode()
    return InboundRequest(url=URL, headers=Headers([("Content-Type", "application/json")]), body=body)


def _call(query: str, method: str = "POST", body: bytes = b"") -> InboundRequest:
    return InboundRequest(method=method, url=f"https://hub.example.com/webhooks/acme/graph{query}", body=body)


def _events(request: InboundRequest) -> list[Any]:
    return list(PRESET.split(read_document(PRESET, request).document) or [])


@pytest.mark.parametrize(
    "query",
    [
        # As Graph writes it, and as its documentation does.
        "?validationToken=Validation%3a+Testing+client+application+reachability%2c+Request-Id%3a+1e61b1c7",
        "?validationToken=Validation%3A%20Testing%20client%20application%20reachability%2C%20Request-Id%3A%201e61b1c7",
        "?tenant=7&validationToken=Validation:+Testing+client+application+reachability,+Request-Id:+1e61b1c7",
    ],
)
def test_the_validation_token_is_echoed_decoded_as_plain_text(query: str) -> None:
    assert PRESET.handshake(_call(query)) == Answer(
        status=200, body=TOKEN.encode(), content_type="text/plain; charset=utf-8"
    )


def test_markup_in_a_validation_token_stays_plain_text() -> None:
    answer = PRESET.handshake(_call("?validationToken=%3Cscript%3Ealert(1)%3C/script%3E%E2%82%AC"))
    assert answer == Answer(body="<script>alert(1)</script>€".encode(), content_type="text/plain; charset=utf-8")


@pytest.mark.parametrize(
    "request_",
    [
        _call("?validationToken=x", method="GET"),
        _call("?validationToken=x", method="PUT"),
        _call(""),
        _call("?validationToken="),
        _call("?validationtoken=x"),
        _call("?other=validationToken=x"),
        _call("?validationToken=one&validationToken=two"),
        _call("?validationToken=%FF"),
        _call("?validationToken=" + "x" * 2_001),
        _call("?" + "a=1&" * 200 + "validationToken=x"),
        _call("", body=b"validationToken=x"),
    ],
    ids=lambda request: f"{request.method}-{request.url[40:80]}",
)
def test_nothing_else_is_echoed(request_: InboundRequest) -> None:
    assert PRESET.handshake(request_) is None


def test_every_entry_must_know_the_secret() -> None:
    good, bad = CHANGE | {"clientState": SECRET}, CHANGE | {"clientState": SECRET[:-1] + "x"}
    for entries in ((good, bad), (bad, good), (bad,)):
        with pytest.raises(WrongSignatureError):
            verify(PRESET, request=_request(*entries), secrets=[SECRET, OTHER_SECRET], now=NOW)
    without = {name: value for name, value in CHANGE.items() if name != "clientState"}
    for entries in ((good, without), (without,), (good, {**without, "clientState": None})):
        with pytest.raises(MissingSignatureError):
            verify(PRESET, request=_request(*entries), secrets=[SECRET], now=NOW)


def test_entries_of_subscriptions_with_old_and_new_secret_may_come_together() -> None:
    request = _request(CHANGE | {"clientState": SECRET}, CHANGE | {"clientState": OTHER_SECRET})
    assert verify(PRESET, request=request, secrets=[SECRET, OTHER_SECRET], now=NOW).secret_index == 1
    with pytest.raises(WrongSignatureError):
        verify(PRESET, request=request, secrets=[SECRET], now=NOW)


def test_each_entry_is_an_event_without_the_secret() -> None:
    request = sign(PRESET, secret=SECRET, body=GRAPH, url=URL, now=NOW)
    events = _events(request)
    assert [event["changeType"] for event in events] == ["updated", "deleted"]
    assert all("clientState" not in event for event in events)
    subscription = "7f105c7d-2dc5-4530-97cd-4e7ae6534c07"
    assert [identify(PRESET, request, event) for event in events] == [
        EventIdentity(
            f'{subscription}:Users/48d31887/Events/AAMkAD1:updated:W/"DwAAABYAAAA"', "microsoft_graph.updated"
        ),
        EventIdentity(
            f'{subscription}:Users/48d31887/Events/AAMkAD2:deleted:W/"DwAAABYAAAA"', "microsoft_graph.deleted"
        ),
    ]


def test_one_entry_alone_is_split_too() -> None:
    assert len(_events(_request(CHANGE))) == 1


def test_without_an_etag_nothing_tells_two_changes_apart() -> None:
    entry = CHANGE | {"resourceData": {"id": "AAMkAD1"}}
    assert identify(PRESET, _request(entry), entry) == EventIdentity(None, "microsoft_graph.updated")


@pytest.mark.parametrize("event", ["subscriptionRemoved", "missed", "reauthorizationRequired"])
def test_lifecycle_notifications_have_their_own_types_and_no_id(event: str) -> None:
    entry = {
        "subscriptionId": "s",
        "clientState": SECRET,
        "lifecycleEvent": event,
        "resourceData": {"@odata.etag": "e"},
    }
    request = _request(entry)
    verify(PRESET, request=request, secrets=[SECRET], now=NOW)
    assert [identify(PRESET, request, one) for one in _events(request)] == [
        EventIdentity(None, f"microsoft_graph.lifecycle.{event}")
    ]


def test_resource_data_is_left_as_it_is() -> None:
    content = {"data": "c2VjcmV0", "dataKey": "a2V5", "dataSignature": "c2ln", "encryptionCertificateId": "mine"}
    request = _request(CHANGE | {"encryptedContent": content}, validationTokens=["eyJ0eXAi"])
    document = read_document(PRESET, request).document
    assert isinstance(document, dict)
    assert document["validationTokens"] == ["eyJ0eXAi"]
    assert _events(request)[0]["encryptedContent"] == content


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"value":[]}', b'{"value":[1]}', b'{"value":{}}'])
def test_what_is_no_notification_is_not_split_and_not_signed(body: bytes) -> None:
    request = InboundRequest(url=URL, headers=Headers([("Content-Type", "application/json")]), body=body)
    read_document(PRESET, request)
    with pytest.raises(InvalidBodyError):
        sign(PRESET, secret=SECRET, body=body, url=URL, now=NOW)


def test_graph_wants_202() -> None:
    assert PRESET.accepted == Answer(status=202)
