import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock.connectors.webhooks import (
    EventIdentity,
    Headers,
    InboundRequest,
    identify,
    preset_for,
    read_document,
    sign,
    verify,
)
from crossdock.mapping.expressions import EvaluationError
from crossdock.mapping.patterns import is_event_type
from tests.connectors.webhooks.samples import NOW, SECRET, URL

SETTINGS = {
    "signature": {
        "header": "X-Acme-Signature",
        "algorithm": "sha512",
        "encoding": "base64",
        "prefix": "s=",
        "separator": ",",
        "timestamp": {"field": "t", "unit": "ms", "tolerance_s": 60},
        "signed_content": "{method}:{url}:{timestamp}:{body}",
    },
    "event_id": {"expression": "meta.id"},
    "event_type": {"header": "X-Acme-Event"},
}


def test_a_tenants_own_sender_works_from_settings_alone() -> None:
    preset = preset_for("generic", SETTINGS)
    body = b'{"meta":{"id":991}}'
    request = sign(preset, secret=SECRET, body=body, url=URL, now=NOW, headers={"X-Acme-Event": "order.paid"})
    assert (request.headers.get("X-Acme-Signature") or "").startswith("t=1773500966000,s=")
    assert verify(preset, request=request, secrets=[SECRET], now=NOW).timestamp == NOW
    assert identify(preset, request, read_document(preset, request).document) == EventIdentity("991", "order.paid")


def test_without_settings_there_is_neither_id_nor_type() -> None:
    preset = preset_for("generic")
    assert identify(preset, InboundRequest(url=URL, body=b""), {"id": 1}) == EventIdentity(None, None)


def test_none_can_name_events_too() -> None:
    preset = preset_for("none", {"event_id": {"header": "X-Id"}, "event_type": {"expression": "kind"}})
    request = InboundRequest(url=URL, headers=Headers([("x-id", "7")]), body=b'{"kind":"a b..c"}')
    assert identify(preset, request, read_document(preset, request).document) == EventIdentity("7", "a_b.c")


@pytest.mark.parametrize("value", [None, True, 1.5, [], {}, ""])
def test_what_is_neither_text_nor_number_is_no_id(value: object) -> None:
    preset = preset_for("none", {"event_id": {"expression": "id"}})
    assert identify(preset, InboundRequest(url=URL, body=b""), {"id": value}).id is None  # type: ignore[dict-item]  # any JSON


def test_an_expression_that_does_not_fit_says_so() -> None:
    preset = preset_for("none", {"event_id": {"expression": "abs(id)"}})
    with pytest.raises(EvaluationError):
        identify(preset, InboundRequest(url=URL, body=b""), {"id": "x"})


@pytest.mark.parametrize("text", ["x" * 5000, "with\nbreak", "nul\0byte"])
def test_an_id_that_could_not_be_stored_becomes_its_hash(text: str) -> None:
    preset = preset_for("none", {"event_id": {"expression": "id"}})
    found = identify(preset, InboundRequest(url=URL, body=b""), {"id": text}).id
    assert found is not None
    assert found.startswith("sha256:")
    assert len(found) == 71


def test_a_type_is_bounded() -> None:
    preset = preset_for("none", {"event_type": {"expression": "type"}})
    found = identify(preset, InboundRequest(url=URL, body=b""), {"type": "x" * 5000}).type
    assert found == "x" * 128
    assert identify(preset, InboundRequest(url=URL, body=b""), {"type": "..."}).type is None


@given(st.text(max_size=300))
def test_whatever_a_sender_calls_its_event_the_type_is_one_that_can_be_published(text: str) -> None:
    preset = preset_for("none", {"event_type": {"expression": "type"}})
    found = identify(preset, InboundRequest(url=URL, body=b""), {"type": text}).type
    assert found is None or is_event_type(found)
