import json
from datetime import UTC, datetime, timedelta

import pytest
from hubspot.utils.signature import Signature  # type: ignore[import-untyped]  # the vendor ships no types
from hypothesis import given
from hypothesis import strategies as st

from crossdock.connectors.webhooks import EventIdentity, Headers, InboundRequest, Preset, presets, sign, verify
from crossdock.connectors.webhooks.errors import (
    MalformedSignatureError,
    MissingSignatureError,
    StaleTimestampError,
    WebhookRefusedError,
    WrongSignatureError,
)
from crossdock.connectors.webhooks.presets.hubspot import signed_uri
from tests.connectors.webhooks.bodies import HUBSPOT
from tests.connectors.webhooks.presets.reading import events_of, identities_of, webhook
from tests.connectors.webhooks.samples import NOW, SECRET, URL

PRESET, V2, V1 = (presets()[name] for name in ("hubspot", "hubspot_v2", "hubspot_v1"))
VECTOR_SECRET = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"
VECTOR_URL = "https://hub.example.com/hooks/hubspot?c=1"
VECTOR_BODY = b'[{"eventId":1,"portalId":62515}]'
VECTOR_AT = datetime.fromtimestamp(1763650000, tz=UTC)
VECTOR_V3 = "6K7raQzG4m9dTgm54K4fGvdD5bjQ1YvGVNvPlczzoZU="
VECTOR_V2 = "042609e92144178123aa7c1efe797deab24fbbe8ad04b0a4d63bb93720d9bc7c"
VECTOR_V1 = "9d18dd3aaf16472a582061e41be9c8e366997a9397282870a066d46a1f597109"
PUBLISHED = (
    b'[{"eventId":1,"subscriptionId":12345,"portalId":62515,"occurredAt":1564113600000,'
    b'"subscriptionType":"contact.creation","attemptNumber":0,"objectId":123,"changeSource":"CRM",'
    b'"changeFlag":"NEW","appId":54321}]'
)


def _v3(signature: str, *, url: str = VECTOR_URL, time: str = "1763650000000") -> InboundRequest:
    headers = [("X-HubSpot-Signature-v3", signature), ("X-HubSpot-Request-Timestamp", time)]
    return webhook(VECTOR_BODY, *headers, url=url)


def _old(signature: str, version: str | None = None) -> InboundRequest:
    named = [("X-HubSpot-Signature-Version", version)] if version else []
    return webhook(VECTOR_BODY, ("X-HubSpot-Signature", signature), *named, url=VECTOR_URL)


def test_the_vectors_of_all_versions_are_accepted() -> None:
    assert verify(PRESET, request=_v3(VECTOR_V3), secrets=[VECTOR_SECRET], now=VECTOR_AT).timestamp == VECTOR_AT
    for preset, request in ((V2, _old(VECTOR_V2, "v2")), (V2, _old(VECTOR_V2)), (V1, _old(VECTOR_V1, "V1"))):
        assert verify(preset, request=request, secrets=[VECTOR_SECRET], now=VECTOR_AT).secret_index == 0


@pytest.mark.parametrize(
    ("preset", "method", "body", "signature"),
    [
        (V1, "POST", PUBLISHED, "232db2615f3d666fe21a8ec971ac7b5402d33b9a925784df3ca654d05f4817de"),
        (V2, "GET", b"", "eee2dddcc73c94d699f5e395f4b9d454a069a6855fbfa152e91e88823087200e"),
        (
            V2,
            "POST",
            b'{"example_field":"example_value"}',
            "9569219f8ba981ffa6f6f16aa0f48637d35d728c7e4d93d0d52efaa512af7900",
        ),
    ],
)
def test_the_vectors_that_hubspot_publishes_are_accepted(
    preset: Preset, method: str, body: bytes, signature: str
) -> None:
    headers = Headers([("X-HubSpot-Signature", signature)])
    request = InboundRequest(method=method, url="https://www.example.com/webhook_uri", headers=headers, body=body)
    assert verify(preset, request=request, secrets=[VECTOR_SECRET], now=NOW).secret_index == 0


@given(body=st.text(max_size=100), method=st.sampled_from(["POST", "PUT"]))
def test_hubspots_library_makes_what_we_make(body: str, method: str) -> None:
    request = InboundRequest(method=method, url=URL, body=body.encode())
    time = str(int(NOW.timestamp() * 1000))
    for preset, version, header in (
        (PRESET, "v3", "X-HubSpot-Signature-v3"),
        (V2, "v2", "X-HubSpot-Signature"),
        (V1, "v1", "X-HubSpot-Signature"),
    ):
        theirs = Signature.get_signature(SECRET, body, version, URL, method, time)
        ours = preset.signature.sign(request, secrets=[SECRET], now=NOW)
        assert ours.headers.get(header) == theirs
        assert ours.url == URL
        assert verify(preset, request=ours, secrets=[SECRET], now=NOW).secret_index == 0


def test_five_minutes_are_counted_in_milliseconds() -> None:
    late = VECTOR_AT + timedelta(minutes=5)
    assert verify(PRESET, request=_v3(VECTOR_V3), secrets=[VECTOR_SECRET], now=late).timestamp == VECTOR_AT
    with pytest.raises(StaleTimestampError):
        verify(PRESET, request=_v3(VECTOR_V3), secrets=[VECTOR_SECRET], now=late + timedelta(milliseconds=1))


@pytest.mark.parametrize(
    ("written", "signed"),
    [
        ("a%3Ab%2Fc%3fd%40e%21f%24g%27h%28i%29j%2Ak%2Cl%3Bm", "a:b/c?d@e!f$g'h(i)j*k,l;m"),
        ("a%2Fb%2fc", "a/b/c"),
        ("%20%26%3D%2B%23%25%22%3C%C3%A9", "%20%26%3D%2B%23%25%22%3C%C3%A9"),
        ("%252F", "%252F"),
        ("plain?x=1&y=%zz%2", "plain?x=1&y=%zz%2"),
    ],
)
def test_a_dozen_escapes_are_decoded_before_signing_and_no_others(written: str, signed: str) -> None:
    assert signed_uri(written) == signed
    called = f"https://hub.example.com/in?next={written}"
    theirs = Signature.get_signature(
        VECTOR_SECRET, VECTOR_BODY.decode(), "v3", f"https://hub.example.com/in?next={signed}", "POST", "1763650000000"
    )
    assert verify(PRESET, request=_v3(theirs, url=called), secrets=[VECTOR_SECRET], now=VECTOR_AT).secret_index == 0


def test_older_versions_sign_the_url_as_it_is() -> None:
    url = "https://hub.example.com/in?next=a%2Fb"
    ours = sign(V2, secret=SECRET, body=b"{}", url=url, now=NOW)
    assert ours.headers.get("X-HubSpot-Signature") == Signature.get_signature(SECRET, "{}", "v2", url, "POST")


@pytest.mark.parametrize(
    "url", [VECTOR_URL.replace("https", "http"), VECTOR_URL.replace("c=1", "c=2"), VECTOR_URL + "&"]
)
def test_another_url_is_refused_by_all_versions_that_sign_it(url: str) -> None:
    with pytest.raises(WrongSignatureError):
        verify(PRESET, request=_v3(VECTOR_V3, url=url), secrets=[VECTOR_SECRET], now=VECTOR_AT)
    old = webhook(VECTOR_BODY, ("X-HubSpot-Signature", VECTOR_V2), url=url)
    with pytest.raises(WrongSignatureError):
        verify(V2, request=old, secrets=[VECTOR_SECRET], now=VECTOR_AT)


@pytest.mark.parametrize(
    ("preset", "request_", "error"),
    [
        (PRESET, _old(VECTOR_V1, "v1"), MissingSignatureError),
        (PRESET, _old(VECTOR_V2, "v2"), MissingSignatureError),
        (PRESET, _v3(VECTOR_V1), MalformedSignatureError),
        (V2, _old(VECTOR_V1), WrongSignatureError),
        (V2, _old(VECTOR_V1, "v1"), MalformedSignatureError),
        (V2, _old(VECTOR_V2, "v1"), MalformedSignatureError),
        (V2, _v3(VECTOR_V3), MissingSignatureError),
        (V1, _old(VECTOR_V2), WrongSignatureError),
        (V1, _old(VECTOR_V2, "v2"), MalformedSignatureError),
    ],
)
def test_no_version_accepts_another(preset: Preset, request_: InboundRequest, error: type[WebhookRefusedError]) -> None:
    with pytest.raises(error):
        verify(preset, request=request_, secrets=[VECTOR_SECRET], now=VECTOR_AT)


def test_each_event_of_a_batch_has_number_type_and_time() -> None:
    at = datetime(2025, 11, 20, 14, 46, 40, 741_000, tzinfo=UTC)
    second = {"eventId": 567890123, "occurredAt": 1763650000742, "subscriptionType": "deal.creation"}
    request = webhook(json.dumps([*json.loads(HUBSPOT), second]).encode())
    assert identities_of(PRESET, request) == [
        EventIdentity("567890123:1763650000741", "hubspot.contact.propertyChange", at),
        EventIdentity("567890123:1763650000742", "hubspot.deal.creation", at + timedelta(milliseconds=1)),
    ]


def test_a_repeated_attempt_has_the_same_id() -> None:
    again = HUBSPOT.replace(b'"attemptNumber": 0', b'"attemptNumber": 3')
    assert again != HUBSPOT
    assert identities_of(PRESET, webhook(again)) == identities_of(PRESET, webhook(HUBSPOT))


def test_an_event_that_says_little_has_no_half_id() -> None:
    request = webhook(b'[{"eventId":1},7,{"occurredAt":"soon"}]')
    assert identities_of(PRESET, request) == [EventIdentity()] * 3
    assert events_of(PRESET, webhook(b"[]")) == []
    assert events_of(PRESET, webhook(b'{"eventId":1}')) == [{"eventId": 1}]
