from datetime import UTC, datetime, timedelta

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from crossdock.connectors.webhooks import (
    EventIdentity,
    Headers,
    InboundRequest,
    identify,
    presets,
    read_document,
    sign,
    verify,
)
from crossdock.connectors.webhooks.errors import (
    MalformedSignatureError,
    MalformedTimestampError,
    MissingTimestampError,
    StaleTimestampError,
    WrongSignatureError,
)
from tests.connectors.webhooks.bodies import STRIPE
from tests.connectors.webhooks.samples import NOW, URL

PRESET = presets()["stripe"]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def _request(header: str, body: bytes = STRIPE) -> InboundRequest:
    return InboundRequest(url=URL, headers=Headers([("Stripe-Signature", header)]), body=body)


def _from_sdk(body: str, at: datetime = NOW) -> str:
    header = stripe.WebhookSignature.generate_signature_header(body, SECRET, timestamp=int(at.timestamp()))
    return str(header)


@given(st.text(max_size=200))
def test_what_stripes_library_signs_is_accepted(body: str) -> None:
    verified = verify(PRESET, request=_request(_from_sdk(body), body.encode()), secrets=[SECRET], now=NOW)
    assert verified.timestamp == NOW


def test_what_we_sign_stripes_library_accepts() -> None:
    now = datetime.now(UTC)
    request = sign(PRESET, secret=SECRET, body=STRIPE, url=URL, now=now)
    header = request.headers.get("Stripe-Signature")
    stripe.WebhookSignature.verify_header(STRIPE, header, SECRET, tolerance=300)
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.WebhookSignature.verify_header(STRIPE + b" ", header, SECRET, tolerance=300)


def test_two_signatures_and_an_old_version_as_during_a_rotation() -> None:
    time, _, right = _from_sdk(STRIPE.decode()).partition(",")
    header = f"{time},v1={'0' * 64},{right},v0={'1' * 64}"
    assert verify(PRESET, request=_request(header), secrets=[SECRET], now=NOW).secret_index == 0


def test_only_the_version_v1_counts() -> None:
    header = _from_sdk(STRIPE.decode()).replace("v1=", "v0=")
    with pytest.raises(MalformedSignatureError):
        verify(PRESET, request=_request(header), secrets=[SECRET], now=NOW)


def test_after_five_minutes_it_is_stale_and_ahead_of_our_clock_it_is_not() -> None:
    request = _request(_from_sdk(STRIPE.decode()))
    with pytest.raises(StaleTimestampError):
        verify(PRESET, request=request, secrets=[SECRET], now=NOW + timedelta(seconds=301))
    assert verify(PRESET, request=request, secrets=[SECRET], now=NOW - timedelta(hours=1)).timestamp == NOW


def test_a_fresher_time_than_the_signed_one_is_refused() -> None:
    header = _from_sdk(STRIPE.decode())
    later = int((NOW + timedelta(hours=2)).timestamp())
    tampered = header.replace(str(int(NOW.timestamp())), str(later))
    with pytest.raises(WrongSignatureError):
        verify(PRESET, request=_request(tampered), secrets=[SECRET], now=NOW + timedelta(hours=2))


def test_the_time_must_be_there_once_and_be_a_time() -> None:
    header = _from_sdk(STRIPE.decode())
    with pytest.raises(MissingTimestampError):
        verify(PRESET, request=_request(header.partition(",")[2]), secrets=[SECRET], now=NOW)
    with pytest.raises(MalformedTimestampError):
        verify(PRESET, request=_request(f"t=1,{header}"), secrets=[SECRET], now=NOW)
    with pytest.raises(MalformedTimestampError):
        verify(PRESET, request=_request("t=soon," + header.partition(",")[2]), secrets=[SECRET], now=NOW)


def test_id_and_type_come_from_the_event() -> None:
    request = _request("", STRIPE)
    document = read_document(PRESET, request).document
    assert identify(PRESET, request, document) == EventIdentity("evt_1Pabc2LkdIwHu7ix", "stripe.charge.refunded")
    assert identify(PRESET, request, []) == EventIdentity(None, None)
    assert identify(PRESET, request, {"created": int(NOW.timestamp())}).time == NOW
