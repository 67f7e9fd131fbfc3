import re
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from crossdock.connectors.webhooks import Preset, preset_for, presets, sign, verify_with_certificates
from crossdock.connectors.webhooks.certificate_signature import CertificateSignature
from crossdock.connectors.webhooks.certificates import SigningCertificate
from crossdock.connectors.webhooks.errors import (
    InvalidSettingsError,
    TrialCertificateError,
    WrongCertificateError,
    WrongSignatureError,
)
from crossdock.connectors.webhooks.trial_certificates import (
    TrialCertificates,
    new_trial_identity,
    signing_as,
    trial_certificate,
)
from tests.connectors.webhooks.certificates import (
    PAYPAL_URL,
    SNS_SETTINGS,
    Issuer,
    LocalCertificates,
    paypal,
    signing,
)
from tests.connectors.webhooks.samples import NOW, SAMPLES, URL, Sample, sample_id, signed

WEBHOOK_ID = "8PT597110X687430LKGECATA"
PRESETS = {"paypal": preset_for("paypal"), "amazon_sns": preset_for("amazon_sns", SNS_SETTINGS)}
each_preset = pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))


def _method(preset: Preset) -> CertificateSignature:
    assert isinstance(preset.signature, CertificateSignature)
    return preset.signature


IDENTITIES = {name: new_trial_identity(_method(preset), now=NOW) for name, preset in PRESETS.items()}


def _source(**trusted: SigningCertificate) -> TrialCertificates:
    methods = {name: _method(preset) for name, preset in PRESETS.items()}
    return TrialCertificates(
        others=LocalCertificates(),
        trusted={methods[name].trial_url: certificate for name, certificate in trusted.items()},
        urls={method.trial_url for method in methods.values()},
    )


@each_preset
@pytest.mark.parametrize("later", [timedelta(0), timedelta(days=3600)])
async def test_what_is_signed_for_testing_is_believed_where_that_is_trusted(preset: Preset, later: timedelta) -> None:
    identity, now = IDENTITIES[preset.name], NOW + later
    request = sign(signing_as(preset, identity), secret=WEBHOOK_ID, body=b"{}", url=URL, now=now)
    verified = await verify_with_certificates(
        preset,
        request=request,
        secrets=[WEBHOOK_ID],
        now=now,
        certificates=_source(**{preset.name: trial_certificate(identity)}),
    )
    assert verified.timestamp == now


@each_preset
async def test_where_it_is_not_trusted_the_reason_says_so(preset: Preset) -> None:
    request = sign(signing_as(preset, IDENTITIES[preset.name]), secret=WEBHOOK_ID, body=b"{}", url=URL, now=NOW)
    with pytest.raises(TrialCertificateError):
        await verify_with_certificates(preset, request=request, secrets=[WEBHOOK_ID], now=NOW, certificates=_source())


@each_preset
async def test_another_installations_key_is_not_believed(preset: Preset) -> None:
    other = new_trial_identity(_method(preset), now=NOW)
    request = sign(signing_as(preset, other), secret=WEBHOOK_ID, body=b"{}", url=URL, now=NOW)
    source = _source(**{preset.name: trial_certificate(IDENTITIES[preset.name])})
    with pytest.raises(WrongSignatureError):
        await verify_with_certificates(preset, request=request, secrets=[WEBHOOK_ID], now=NOW, certificates=source)


async def test_senders_themselves_are_believed_as_ever() -> None:
    root = Issuer.root(NOW)
    theirs = signing(root.leaf("messageverificationcerts.paypal.com", NOW), root)
    source = TrialCertificates(others=LocalCertificates({PAYPAL_URL: theirs}), trusted={}, urls=frozenset())
    request = sign(paypal(NOW), secret=WEBHOOK_ID, body=b"{}", url=URL, now=NOW)
    verified = await verify_with_certificates(
        PRESETS["paypal"], request=request, secrets=[WEBHOOK_ID], now=NOW, certificates=source
    )
    assert verified.secret_index == 0


@each_preset
def test_an_identity_holds_one_key_and_not_the_authoritys(preset: Preset) -> None:
    kinds = re.findall(r"-----BEGIN (.*?)-----", IDENTITIES[preset.name])
    assert kinds == ["PRIVATE KEY", "CERTIFICATE", "CERTIFICATE"]


def test_only_certificates_of_the_right_kind_sign() -> None:
    elliptic = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for preset, identity in (
        (presets()["github"], IDENTITIES["paypal"]),
        (PRESETS["paypal"], elliptic.decode()),
    ):
        with pytest.raises(InvalidSettingsError):
            signing_as(preset, identity)


@pytest.mark.parametrize("sample", [one for one in SAMPLES if one.preset != "paypal"], ids=sample_id)
async def test_senders_without_certificates_cause_no_fetch(sample: Sample) -> None:
    source = LocalCertificates()
    request = signed(sample)
    preset = presets()[sample.preset]
    await verify_with_certificates(preset, request=request, secrets=[sample.secret], now=NOW, certificates=source)
    assert source.asked == []


async def test_a_certificate_from_elsewhere_causes_no_fetch() -> None:
    source = LocalCertificates()
    request = sign(paypal(NOW), secret=WEBHOOK_ID, body=b"{}", url=URL, now=NOW)
    bad = replace(request, headers=request.headers.replaced([("PayPal-Cert-Url", "https://evil.example/cert")]))
    with pytest.raises(WrongCertificateError):
        await verify_with_certificates(
            PRESETS["paypal"], request=bad, secrets=[WEBHOOK_ID], now=NOW, certificates=source
        )
    assert source.asked == []
