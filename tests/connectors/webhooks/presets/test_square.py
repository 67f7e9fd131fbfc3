from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from square.utils.webhooks_helper import verify_signature

from crossdock.connectors.webhooks import EventIdentity, presets, sign, verify
from crossdock.connectors.webhooks.errors import MissingSignatureError, WrongSignatureError
from tests.connectors.webhooks.bodies import SQUARE
from tests.connectors.webhooks.presets.reading import identities_of, webhook
from tests.connectors.webhooks.samples import NOW, SECRET, URL, changed

PRESET = presets()["square"]
HEADER = "x-square-hmacsha256-signature"


@given(st.text(min_size=1, max_size=200))
def test_squares_library_accepts_what_we_sign_and_nothing_else(body: str) -> None:
    request = sign(PRESET, secret=SECRET, body=body.encode(), url=URL, now=NOW)
    header = request.headers.get(HEADER) or ""
    given_ = {"signature_header": header, "signature_key": SECRET, "notification_url": URL}
    assert verify_signature(request_body=body, **given_)
    assert not verify_signature(request_body=body + " ", **given_)
    assert verify(PRESET, request=request, secrets=[SECRET], now=NOW).secret_index == 0


@pytest.mark.parametrize(
    "url", [URL.replace("https", "http"), URL.replace("hub", "internal"), URL.partition("?")[0], URL + "&", URL + "/"]
)
def test_the_public_url_counts_to_the_letter(url: str) -> None:
    request = sign(PRESET, secret=SECRET, body=SQUARE, url=URL, now=NOW)
    with pytest.raises(WrongSignatureError):
        verify(PRESET, request=changed(request, url=url), secrets=[SECRET], now=NOW)


def test_the_older_signature_is_not_looked_at() -> None:
    request = sign(PRESET, secret=SECRET, body=SQUARE, url=URL, now=NOW)
    old = changed(request, without=HEADER, headers={"x-square-signature": request.headers.get(HEADER) or ""})
    with pytest.raises(MissingSignatureError):
        verify(PRESET, request=old, secrets=[SECRET], now=NOW)


def test_id_type_and_time_come_from_the_event() -> None:
    at = datetime(2020, 2, 6, 21, 27, 41, 852_000, tzinfo=UTC)
    expected = EventIdentity("bc316346-6691-4243-88ed-6d651a0d0c47", "square.refund.created", at)
    assert identities_of(PRESET, webhook(SQUARE)) == [expected]
    assert identities_of(PRESET, webhook(b"{}")) == [EventIdentity()]
