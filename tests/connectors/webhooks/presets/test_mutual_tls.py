from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from crossdock.connectors.webhooks import Headers, InboundRequest, Preset, preset_for, presets, sign, verify
from crossdock.connectors.webhooks.errors import (
    InvalidSettingsError,
    MalformedSignatureError,
    MissingSecretError,
    MissingSignatureError,
    UntrustedProxyError,
    WrongSignatureError,
)
from tests.connectors.webhooks.samples import NOW, URL

SUBJECT = "/C=US/ST=CA/L=San Francisco/OU=Lyft/CN=Test Client"
HASH = "468ed33be74eee6556d90c0149c1309e9ba61d6425303443c0748a02dd8de688"
OTHER_HASH = HASH[:-1] + "9"
SHA1 = HASH[:40]


def _certificate(name: str) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(named)
        .issuer_name(named)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=365))
        .sign(key, hashes.SHA256())
    )


CERTIFICATE, OTHER = _certificate("erp.example.com"), _certificate("erp.example.com")
PEM, OTHER_PEM = (one.public_bytes(Encoding.PEM).decode() for one in (CERTIFICATE, OTHER))


def _preset(format_: str, *accepted: str, **more: Any) -> Preset:
    return preset_for("mutual_tls", {"header": "X-Client", "format": format_, "accepted": list(accepted), **more})


def _request(*headers: tuple[str, str], via_trusted_proxy: bool = True) -> InboundRequest:
    return InboundRequest(url=URL, headers=Headers(headers), body=b"{}", via_trusted_proxy=via_trusted_proxy)


def _verify(preset: Preset, *values: str) -> None:
    verify(preset, request=_request(*(("X-Client", value) for value in values)), secrets=[], now=NOW)


@pytest.mark.parametrize("written", [HASH, HASH.upper(), ":".join(HASH[at : at + 2] for at in range(0, 64, 2))])
def test_a_fingerprint_is_accepted_however_it_is_written(written: str) -> None:
    _verify(_preset("fingerprint", HASH), written)
    _verify(_preset("fingerprint", OTHER_HASH, written), HASH)


def test_a_sha_1_fingerprint_will_do() -> None:
    _verify(_preset("fingerprint", SHA1), SHA1.upper())
    with pytest.raises(WrongSignatureError):
        _verify(_preset("fingerprint", HASH), SHA1)


def test_a_certificate_in_the_settings_stands_for_its_fingerprints() -> None:
    preset = _preset("fingerprint", PEM)
    _verify(preset, CERTIFICATE.fingerprint(hashes.SHA256()).hex())
    _verify(preset, CERTIFICATE.fingerprint(hashes.SHA1()).hex())
    with pytest.raises(WrongSignatureError):
        _verify(preset, OTHER.fingerprint(hashes.SHA256()).hex())


def test_any_changed_character_of_a_fingerprint_is_refused() -> None:
    preset = _preset("fingerprint", HASH)
    for at in range(64):
        with pytest.raises(WrongSignatureError):
            _verify(preset, HASH[:at] + ("0" if HASH[at] != "0" else "1") + HASH[at + 1 :])


@pytest.mark.parametrize("text", ["nonsense", HASH[:-1], HASH + "0", "(null)", "é" * 64, PEM.replace("\n", " ")])
def test_what_is_no_fingerprint_is_malformed(text: str) -> None:
    with pytest.raises(MalformedSignatureError):
        _verify(_preset("fingerprint", HASH), text)


def test_a_subject_is_compared_character_by_character() -> None:
    preset = _preset("subject", SUBJECT)
    _verify(preset, SUBJECT)
    for text in (SUBJECT.lower(), SUBJECT + "x", SUBJECT.replace("/", ","), HASH):
        with pytest.raises(WrongSignatureError):
            _verify(preset, text)


def test_a_subject_with_accents_comes_as_utf_8() -> None:
    _verify(_preset("subject", "CN=Zoë,O=Söhne"), "CN=Zoë,O=Söhne".encode().decode("latin-1"))
    _verify(_preset("subject", "CN=Zoë,O=Söhne"), "CN=Zoë,O=Söhne")


# Envoy's documentation of x-forwarded-client-cert.
XFCC = f'By=http://frontend.lyft.com;Hash={HASH};Subject="{SUBJECT}";URI=http://testclient.lyft.com'


@pytest.mark.parametrize("accepted", [HASH, SUBJECT])
def test_envoys_header_is_accepted_by_hash_or_subject(accepted: str) -> None:
    _verify(_preset("xfcc", accepted), XFCC)
    _verify(_preset("xfcc", accepted), XFCC + ";DNS=lyft.com;DNS=www.lyft.com")
    with pytest.raises(WrongSignatureError):
        _verify(_preset("xfcc", accepted), XFCC.replace(HASH, OTHER_HASH).replace("Lyft", "Else"))


def test_a_subject_may_hold_whatever_would_end_it() -> None:
    subject = 'O="Acme, Inc."; CN=a\\b'
    _verify(_preset("xfcc", subject), f'Hash={HASH};Subject="O=\\"Acme, Inc.\\"; CN=a\\\\b"')


@pytest.mark.parametrize(
    "text",
    [
        f"Hash={HASH},By=http://frontend.lyft.com;Hash={OTHER_HASH}",
        f"Hash={OTHER_HASH};Hash={HASH}",
        f'Subject="x";Subject="{SUBJECT}";Hash={HASH}',
        f"Hash={HASH},",
        "By=http://frontend.lyft.com",
        "Hash=;Subject=",
        f"Hash={HASH};garbage",
        f'Hash={HASH};Subject="open',
        "nonsense",
        " " * 25_000,
        f"Hash={HASH};" * 300,
    ],
)
def test_an_envoy_header_that_could_be_anybodys_is_malformed(text: str) -> None:
    with pytest.raises(MalformedSignatureError):
        _verify(_preset("xfcc", HASH, SUBJECT), text)


def test_a_certificate_in_the_header_is_known_by_its_fingerprint() -> None:
    fingerprint = CERTIFICATE.fingerprint(hashes.SHA256()).hex()
    for accepted in (fingerprint, PEM):
        _verify(_preset("pem", accepted), quote(PEM, safe=""))
        # AWS leaves these as they are.
        _verify(_preset("pem", accepted), quote(PEM, safe="+=/"))
        # of a chain the first is the sender's own
        _verify(_preset("pem", accepted), quote(PEM + OTHER_PEM, safe=""))
        with pytest.raises(WrongSignatureError):
            _verify(_preset("pem", accepted), quote(OTHER_PEM, safe=""))
        with pytest.raises(WrongSignatureError):
            _verify(_preset("pem", accepted), quote(OTHER_PEM + PEM, safe=""))


@pytest.mark.parametrize(
    "text", ["nonsense", "%ZZ", quote(PEM[:200]), quote(PEM.replace("M", "N")), "x" * 30_000, quote(PEM) * 60]
)
def test_what_is_no_certificate_is_malformed(text: str) -> None:
    with pytest.raises(MalformedSignatureError):
        _verify(_preset("pem", HASH), text)


EACH = [("fingerprint", HASH), ("subject", SUBJECT), ("xfcc", HASH), ("xfcc", SUBJECT), ("pem", PEM)]
each_format = pytest.mark.parametrize(("format_", "accepted"), EACH)


@each_format
def test_what_is_signed_is_what_the_proxy_would_say(format_: str, accepted: str) -> None:
    preset = _preset(format_, accepted, verified_header="X-SSL-Client-Verify")
    request = sign(preset, secret="", body=b"{}", url=URL, now=NOW)
    assert request.headers.get("x-ssl-client-verify") == "SUCCESS"
    verify(preset, request=request, secrets=[], now=NOW)


@each_format
def test_nothing_is_believed_that_came_through_no_proxy_of_ours(format_: str, accepted: str) -> None:
    preset = _preset(format_, accepted)
    request = replace(sign(preset, secret="", body=b"{}", url=URL, now=NOW), via_trusted_proxy=False)
    with pytest.raises(UntrustedProxyError, match="CROSSDOCK_TRUSTED_PROXIES"):
        verify(preset, request=request, secrets=[], now=NOW)


@each_format
def test_no_certificate_is_refused(format_: str, accepted: str) -> None:
    for headers in ((), (("X-Client", ""),), (("X-Other", accepted),)):
        with pytest.raises(MissingSignatureError):
            verify(_preset(format_, accepted), request=_request(*headers), secrets=[], now=NOW)


@each_format
def test_a_header_that_the_proxy_only_added_to_is_refused(format_: str, accepted: str) -> None:
    preset = _preset(format_, accepted)
    value = sign(preset, secret="", body=b"{}", url=URL, now=NOW).headers.get("X-Client") or ""
    with pytest.raises(MalformedSignatureError, match="more than once"):
        _verify(preset, value, value)


def test_the_proxy_must_have_found_the_certificate_valid() -> None:
    preset = _preset("subject", SUBJECT, verified_header="X-SSL-Client-Verify")
    good = ("X-Client", SUBJECT)
    verify(preset, request=_request(good, ("X-SSL-Client-Verify", "SUCCESS")), secrets=[], now=NOW)
    for said in ("NONE", "FAILED:self-signed certificate", "success"):
        with pytest.raises(WrongSignatureError):
            verify(preset, request=_request(good, ("X-SSL-Client-Verify", said)), secrets=[], now=NOW)
    with pytest.raises(MissingSignatureError):
        verify(preset, request=_request(good), secrets=[], now=NOW)
    twice = (("X-SSL-Client-Verify", "SUCCESS"), ("X-SSL-Client-Verify", "FAILED"))
    with pytest.raises(MalformedSignatureError):
        verify(preset, request=_request(good, *twice), secrets=[], now=NOW)


def test_during_a_change_of_certificates_both_count() -> None:
    preset = _preset("fingerprint", HASH, OTHER_HASH)
    _verify(preset, HASH)
    _verify(preset, OTHER_HASH)


def test_without_settings_nothing_is_accepted() -> None:
    with pytest.raises(MissingSecretError):
        verify(presets()["mutual_tls"], request=_request(("X-Client", HASH)), secrets=[], now=NOW)
    with pytest.raises(InvalidSettingsError):
        sign(presets()["mutual_tls"], secret="", body=b"", url=URL, now=NOW)


def test_a_fingerprint_alone_makes_no_certificate() -> None:
    with pytest.raises(InvalidSettingsError, match="accepted"):
        sign(_preset("pem", HASH), secret="", body=b"", url=URL, now=NOW)


@pytest.mark.parametrize(
    ("settings", "pointer"),
    [
        (None, "/settings/header"),
        ({"header": "X", "accepted": []}, "/settings/accepted"),
        ({"header": "X", "accepted": [" "]}, "/settings/accepted/0"),
        ({"header": "X", "accepted": [HASH, PEM[:300]]}, "/settings/accepted/1"),
        ({"header": "X", "format": "der", "accepted": [HASH]}, "/settings/format"),
        # Each of these could never match, and is a typing error.
        ({"header": "X", "accepted": [HASH[:-1]]}, "/settings"),
        ({"header": "X", "format": "pem", "accepted": [SUBJECT]}, "/settings"),
        ({"header": "X", "format": "subject", "accepted": [HASH]}, "/settings"),
        ({"header": "X", "format": "xfcc", "accepted": [SHA1]}, "/settings"),
    ],
)
def test_faults_in_the_settings_are_named_by_place(settings: object, pointer: str) -> None:
    with pytest.raises(InvalidSettingsError) as caught:
        preset_for("mutual_tls", settings)
    assert caught.value.faults[0].pointer == pointer
