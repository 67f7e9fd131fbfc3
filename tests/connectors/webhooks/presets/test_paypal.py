from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zlib import crc32

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256

from crossdock.connectors.webhooks import (
    EventIdentity,
    Headers,
    InboundRequest,
    Verified,
    identify,
    preset_for,
    presets,
    read_document,
    sign,
    verify,
)
from crossdock.connectors.webhooks.certificates import SigningCertificate
from crossdock.connectors.webhooks.errors import (
    CertificateUnavailableError,
    InvalidSettingsError,
    MalformedSignatureError,
    MissingSignatureError,
    StaleTimestampError,
    WebhookRefusedError,
    WrongCertificateError,
    WrongSignatureError,
)
from tests.connectors.webhooks.bodies import PAYPAL
from tests.connectors.webhooks.certificates import (
    PAYPAL_URL,
    Issuer,
    checks_with,
    paypal,
    rsa_key,
    signing,
)
from tests.connectors.webhooks.samples import NOW, URL, changed

WEBHOOK_ID = "8PT597110X687430LKGECATA"
ROOT = Issuer.root(NOW)
HOST = "messageverificationcerts.paypal.com"


def _certificate(leaf_name: str = HOST) -> SigningCertificate:
    return signing(ROOT.leaf(leaf_name, NOW), ROOT)


def _signed(body: bytes = PAYPAL, *, webhook_id: str = WEBHOOK_ID, now: datetime = NOW) -> InboundRequest:
    return sign(paypal(NOW), secret=webhook_id, body=body, url=URL, now=now)


def _verify(request: InboundRequest, certificate: SigningCertificate | None = None, at: datetime = NOW) -> Verified:
    preset = paypal(NOW) if certificate is None else checks_with(presets()["paypal"], certificate)
    return verify(preset, request=request, secrets=[WEBHOOK_ID], now=at)


def test_a_message_put_together_by_hand_as_paypal_describes_it_is_accepted() -> None:
    transmission, time = "69cd13f0-d67a-11e5-baa3-778b53f4ae55", "2026-03-14T15:09:26Z"
    message = f"{transmission}|{time}|{WEBHOOK_ID}|{crc32(PAYPAL) & 0xFFFFFFFF}"
    signature = rsa_key().sign(message.encode(), PKCS1v15(), SHA256())
    headers = {
        "PAYPAL-TRANSMISSION-ID": transmission,
        "PAYPAL-TRANSMISSION-TIME": time,
        "PAYPAL-TRANSMISSION-SIG": b64encode(signature).decode(),
        "PAYPAL-CERT-URL": PAYPAL_URL,
        "PAYPAL-AUTH-ALGO": "SHA256withRSA",
    }
    request = InboundRequest(url=URL, headers=Headers(headers.items()), body=PAYPAL)
    assert _verify(request) == Verified(0, NOW)


def test_the_checksum_is_unsigned() -> None:
    body = next(body for body in (b"%d" % n for n in range(100)) if crc32(body) >= 2**31)
    assert _verify(_signed(body)).secret_index == 0


@pytest.mark.parametrize(
    "header",
    [
        "PayPal-Transmission-Id",
        "PayPal-Transmission-Time",
        "PayPal-Transmission-Sig",
        "PayPal-Cert-Url",
        "PayPal-Auth-Algo",
    ],
)
def test_each_header_must_come_once(header: str) -> None:
    request = _signed()
    missing = [changed(request, without=header), changed(request, headers={header: ""})]
    doubled = Headers([*request.headers.items(), (header, "x")])
    for bad in (*missing, InboundRequest(url=URL, headers=doubled, body=PAYPAL)):
        with pytest.raises(WebhookRefusedError):
            _verify(bad)


@pytest.mark.parametrize(
    ("header", "value"),
    [("PayPal-Transmission-Id", "another"), ("PayPal-Transmission-Time", "2026-03-14T15:09:27Z")],
)
def test_a_changed_header_that_is_signed_is_refused(header: str, value: str) -> None:
    with pytest.raises(WrongSignatureError):
        _verify(changed(_signed(), headers={header: value}))


def test_what_is_signed_for_another_webhook_is_refused() -> None:
    with pytest.raises(WrongSignatureError):
        _verify(_signed(webhook_id="5YR89137NC123456X"))


@pytest.mark.parametrize("algorithm", ["SHA1withRSA", "none", "HS256"])
def test_another_algorithm_is_refused(algorithm: str) -> None:
    with pytest.raises(MalformedSignatureError, match="SHA256withRSA"):
        _verify(changed(_signed(), headers={"PayPal-Auth-Algo": algorithm}))


def test_a_signature_with_sha1_is_refused_whatever_it_is_called() -> None:
    request = _signed()
    parts = [request.headers.get(f"PayPal-Transmission-{part}") or "" for part in ("Id", "Time")]
    message = "|".join((*parts, WEBHOOK_ID, str(crc32(PAYPAL))))
    signature = b64encode(rsa_key().sign(message.encode(), PKCS1v15(), SHA1())).decode()
    with pytest.raises(WrongSignatureError):
        _verify(changed(request, headers={"PayPal-Transmission-Sig": signature}))


@pytest.mark.parametrize("text", ["", "AA==", "00" * 256, "%%%"])
def test_a_signature_of_another_length_or_spelling_is_refused(text: str) -> None:
    with pytest.raises((MalformedSignatureError, MissingSignatureError)):
        _verify(changed(_signed(), headers={"PayPal-Transmission-Sig": text}))


@pytest.mark.parametrize(
    "url",
    [
        "https://evilpaypal.com/cert",
        "https://paypal.com.evil.example/cert",
        "https://api.paypal.com.evil.example/cert",
        "https://api.paypal.com@evil.example/cert",
        "https://user@api.paypal.com/cert",
        "https://user:secret@api.paypal.com/cert",
        "https://evil.example/?https://api.paypal.com/cert",
        "https://evil.example/#.paypal.com/cert",
        "https://evil.example\\.paypal.com/cert",
        "https://evil.example/.paypal.com",
        "https://127.0.0.1/cert",
        "https://[::1]/cert",
        "https://2130706433/cert",
        "https://localhost/cert",
        "http://api.paypal.com/cert",
        "ftp://api.paypal.com/cert",
        "file:///etc/passwd",
        "//api.paypal.com/cert",
        "https://api.paypal.com:8443/cert",
        "https://api.paypal.com:80/cert",
        "https://api.paypal.com",
        "https://api.paypal.com/cert?next=https://evil.example",
        "https://api.paypal.com/cert#x",
        "https://api.paypal.com/ce rt",
        "https://api.paypal.com/cert\n",
        "https://api.paypal.com\t/cert",
        "https://api.payp\u0430l.com/cert",
        "https://api.paypal.com./cert",
        "https://paypal.com/cert",
        "https://.paypal.com/cert",
        "https:/api.paypal.com/cert",
        "javascript:alert(1)",
        "x",
    ],
)
def test_a_certificate_from_elsewhere_is_refused_before_it_could_be_fetched(url: str) -> None:
    request = changed(_signed(), headers={"PayPal-Cert-Url": url})
    signature = presets()["paypal"].signature
    with pytest.raises(WrongCertificateError):
        signature.certificate_url(request)  # type: ignore[attr-defined]
    with pytest.raises(WrongCertificateError):
        _verify(request)


@pytest.mark.parametrize(
    "url", [PAYPAL_URL, "https://api.sandbox.paypal.com/v1/notifications/certs/CERT-1", "https://a.paypal.com:443/x"]
)
def test_paypals_own_places_are_accepted(url: str) -> None:
    signature = presets()["paypal"].signature
    assert signature.certificate_url(changed(_signed(), headers={"PayPal-Cert-Url": url})) == url  # type: ignore[attr-defined]


def test_without_its_certificate_nothing_can_be_verified() -> None:
    with pytest.raises(CertificateUnavailableError):
        verify(presets()["paypal"], request=_signed(), secrets=[WEBHOOK_ID], now=NOW)


def _of_a_stranger() -> SigningCertificate:
    stranger = Issuer.root(NOW, name="Stranger", key=3)
    return signing(stranger.leaf(HOST, NOW), ROOT)


def _of_a_namesake() -> SigningCertificate:
    return signing(Issuer.root(NOW, key=3).leaf(HOST, NOW), ROOT)


def _self_signed() -> SigningCertificate:
    return signing(Issuer(ROOT.certificate, rsa_key()).leaf(HOST, NOW), ROOT)


def _made_out_by_a_leaf() -> SigningCertificate:
    leaf = Issuer(ROOT.leaf("any.paypal.com", NOW, key=rsa_key(4)), rsa_key(4))
    return signing(leaf.leaf(HOST, NOW), ROOT, issuers=[leaf])


@pytest.mark.parametrize(
    ("certificate", "said"),
    [
        (_of_a_stranger, "No trusted authority"),
        (_of_a_namesake, "No trusted authority"),
        (_self_signed, "No trusted authority"),
        (_made_out_by_a_leaf, "No trusted authority"),
        (lambda: signing(ROOT.leaf(HOST, NOW)), "trusts no authorities"),
        (lambda: _certificate("paypal.com"), "not the sender"),
        (lambda: _certificate("evilpaypal.com"), "not the sender"),
        (lambda: _certificate("www.paypal.com.evil.example"), "not the sender"),
        (lambda: signing(ROOT.leaf(HOST, NOW, lasts=timedelta(seconds=-1)), ROOT), "was valid until"),
        (lambda: signing(ROOT.leaf(HOST, NOW, since=timedelta(seconds=-1)), ROOT), "is valid from"),
        (lambda: signing(ROOT.leaf(HOST, NOW, key=rsa_key(5, bits=1024)), ROOT), "RSA|vouches"),
        (lambda: signing(ROOT.intermediate(NOW, name=HOST, key=0).certificate, ROOT), "vouches"),
    ],
)
def test_a_certificate_that_is_not_paypals_now_is_refused(
    certificate: Callable[[], SigningCertificate], said: str
) -> None:
    with pytest.raises(WrongCertificateError, match=said):
        _verify(_signed(), certificate())


def test_the_key_of_another_certificate_of_paypals_does_not_fit() -> None:
    other = signing(ROOT.leaf(HOST, NOW, key=rsa_key(6)), ROOT)
    with pytest.raises(WrongSignatureError):
        _verify(_signed(), other)


def test_an_intermediate_that_came_along_leads_to_the_root() -> None:
    between = ROOT.intermediate(NOW)
    leaf = between.leaf(HOST, NOW)
    assert _verify(_signed(), signing(leaf, ROOT, issuers=[between])).secret_index == 0
    with pytest.raises(WrongCertificateError, match="No trusted authority"):
        _verify(_signed(), signing(leaf, ROOT))


def test_a_certificate_that_ran_out_between_two_webhooks_is_refused() -> None:
    certificate = signing(ROOT.leaf(HOST, NOW, lasts=timedelta(hours=1)), ROOT)
    assert _verify(_signed(), certificate).secret_index == 0
    with pytest.raises(WrongCertificateError):
        _verify(_signed(), certificate, at=NOW + timedelta(hours=2))


def test_a_webhook_that_was_tried_for_three_days_is_still_good() -> None:
    request = _signed()
    assert _verify(request, at=NOW + timedelta(days=3, hours=1)).timestamp == NOW
    with pytest.raises(StaleTimestampError):
        _verify(request, at=NOW + timedelta(days=4, seconds=1))


@pytest.mark.parametrize("text", ["", "a b", "x" * 51, "WH-é", "8PT597110X687430LKGECATA\n"])
def test_what_cannot_be_a_webhooks_id_is_no_secret(text: str) -> None:
    with pytest.raises(InvalidSettingsError):
        presets()["paypal"].signature.check_secret(text)
    with pytest.raises(InvalidSettingsError):
        _signed(webhook_id=text)


def test_without_a_key_nothing_can_be_signed() -> None:
    with pytest.raises(InvalidSettingsError, match="certificate"):
        sign(preset_for("paypal"), secret=WEBHOOK_ID, body=b"{}", url=URL, now=NOW)


def test_the_event_is_the_one_that_paypal_names() -> None:
    request = _signed()
    document = read_document(presets()["paypal"], request).document
    assert identify(presets()["paypal"], request, document) == EventIdentity(
        "WH-58D329510W468432D-8HN650336L201105X",
        "paypal.payment.capture.refunded",
        datetime(2026, 11, 1, 21, 50, 7, 940_000, tzinfo=UTC),
    )
