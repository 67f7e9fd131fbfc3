import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm

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
    FutureTimestampError,
    InvalidSettingsError,
    MalformedSignatureError,
    MalformedTimestampError,
    MissingSignatureError,
    MissingTimestampError,
    StaleTimestampError,
    UnknownTopicError,
    WebhookRefusedError,
    WrongCertificateError,
    WrongSignatureError,
)
from tests.connectors.webhooks.bodies import SES_BOUNCE
from tests.connectors.webhooks.bodies import SNS_CONFIRMATION as CONFIRMATION
from tests.connectors.webhooks.bodies import SNS_NOTIFICATION as NOTIFICATION
from tests.connectors.webhooks.certificates import (
    SNS_SETTINGS,
    TOPIC,
    Issuer,
    amazon_sns,
    checks_with,
    rsa_key,
    signing,
)
from tests.connectors.webhooks.samples import NOW, URL, flipped

ROOT = Issuer.root(NOW)
SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
SIGNED["UnsubscribeConfirmation"] = SIGNED["SubscriptionConfirmation"]


def _signature(message: dict[str, Any], algorithm: HashAlgorithm | None = None) -> str:
    """As Amazon's documentation describes it."""
    lines = [part for name in SIGNED[message["Type"]] if name in message for part in (name, message[name])]
    hashed = algorithm or (SHA256() if message["SignatureVersion"] == "2" else SHA1())
    return b64encode(rsa_key().sign(("\n".join(lines) + "\n").encode(), PKCS1v15(), hashed)).decode()


def _request(message: object, headers: tuple[tuple[str, str], ...] = ()) -> InboundRequest:
    body = message if isinstance(message, bytes) else json.dumps(message, indent=2).encode()
    return InboundRequest(
        url=URL, headers=Headers([("Content-Type", "text/plain; charset=UTF-8"), *headers]), body=body
    )


def _complete(message: dict[str, Any]) -> dict[str, Any]:
    return message | {"Signature": _signature(message)}


def _verify(message: object, certificate: SigningCertificate | None = None, at: datetime = NOW) -> Verified:
    preset = amazon_sns(NOW)
    if certificate is not None:
        preset = checks_with(preset, certificate)
    request = message if isinstance(message, InboundRequest) else _request(message)
    return verify(preset, request=request, secrets=[], now=at)


def _without(message: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name not in names}


UNSUBSCRIBED = CONFIRMATION | {"Type": "UnsubscribeConfirmation"}
MESSAGES = [NOTIFICATION, _without(NOTIFICATION, "Subject"), CONFIRMATION, UNSUBSCRIBED]
each_message = pytest.mark.parametrize("message", MESSAGES, ids=lambda one: f"{one['Type']}-{len(one)}")


@each_message
@pytest.mark.parametrize("version", ["1", "2"])
def test_both_signature_versions_of_each_type_are_accepted(message: dict[str, Any], version: str) -> None:
    verified = _verify(_complete(message | {"SignatureVersion": version}))
    assert verified == Verified(None, datetime(2026, 3, 14, 15, 9, 26, 655_000, tzinfo=UTC))


@each_message
def test_a_changed_character_of_anything_signed_is_refused(message: dict[str, Any]) -> None:
    complete = _complete(message)
    for name in SIGNED[message["Type"]]:
        if name in message:
            changed = flipped(complete[name].encode(), 1).decode("utf-8", "replace")
            with pytest.raises(WebhookRefusedError):
                _verify(complete | {name: changed})
            with pytest.raises(WebhookRefusedError):
                _verify(_without(complete, name))


@each_message
def test_any_changed_character_of_the_signature_is_refused(message: dict[str, Any]) -> None:
    complete = _complete(message)
    text = complete["Signature"]
    for at in range(0, len(text.rstrip("=")) - 1, 7):
        tampered = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
        with pytest.raises(WrongSignatureError):
            _verify(complete | {"Signature": tampered})


def test_a_subject_that_was_added_is_refused() -> None:
    with pytest.raises(WrongSignatureError):
        _verify(_complete(_without(NOTIFICATION, "Subject")) | {"Subject": "Urgent"})


@pytest.mark.parametrize(("version", "algorithm"), [("1", SHA256()), ("2", SHA1())])
def test_a_signature_of_the_other_version_does_not_fit(version: str, algorithm: HashAlgorithm) -> None:
    message = NOTIFICATION | {"SignatureVersion": version}
    with pytest.raises(WrongSignatureError):
        _verify(message | {"Signature": _signature(message, algorithm)})


def test_a_confirmation_does_not_pass_for_a_notification() -> None:
    with pytest.raises(WebhookRefusedError):
        _verify(_complete(CONFIRMATION) | {"Type": "Notification"})


@pytest.mark.parametrize("version", ["0", "3", "", None, 2])
def test_a_signature_version_that_is_not_known_is_refused(version: object) -> None:
    with pytest.raises(MalformedSignatureError):
        _verify(_complete(NOTIFICATION) | {"SignatureVersion": version})


@pytest.mark.parametrize("text", ["", None])
def test_no_signature_is_refused(text: object) -> None:
    for message in (_complete(NOTIFICATION) | {"Signature": text}, NOTIFICATION):
        with pytest.raises(MissingSignatureError):
            _verify(message)


@pytest.mark.parametrize("text", ["nonsense!", "00" * 256, "AA==", 7, ["x"]])
def test_a_signature_written_otherwise_is_malformed(text: object) -> None:
    with pytest.raises(MalformedSignatureError):
        _verify(_complete(NOTIFICATION) | {"Signature": text})


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b'"text"', b"{}", b'{"Type": "Other"}', b'{"Type": ["x"]}'])
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedSignatureError, match="not a message of Amazon SNS"):
        _verify(_request(body))


def test_raw_message_delivery_is_refused_with_the_reason() -> None:
    with pytest.raises(MissingSignatureError, match="raw message delivery"):
        _verify(_request(b'{"eventType": "Bounce"}', (("x-amz-sns-rawdelivery", "true"),)))


def test_the_topic_of_somebody_else_is_refused_though_amazon_signed_it() -> None:
    other = TOPIC.replace("123456789012", "999999999999")
    with pytest.raises(UnknownTopicError, match="999999999999"):
        _verify(_complete(NOTIFICATION | {"TopicArn": other}))
    with pytest.raises(UnknownTopicError):
        verify(presets()["amazon_sns"], request=_request(_complete(NOTIFICATION)), secrets=[], now=NOW)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/SimpleNotificationService-1.pem",
        "https://sns.eu-west-1.amazonaws.com.evil.example/SimpleNotificationService-1.pem",
        "https://sns.eu-west-1.amazonaws.com@evil.example/SimpleNotificationService-1.pem",
        "https://sns.eu-west-1.evil-amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.eu-west-1xamazonaws.com/SimpleNotificationService-1.pem",
        "https://evil.sns.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem",
        "https://evil-sns.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem",
        "https://bucket.s3.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.s3.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.s3-us-west-2.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.s3-website-us-east-1.amazonaws.com/SimpleNotificationService-1.pem",
        "https://s3.amazonaws.com/sns.eu-west-1.amazonaws.com/x.pem",
        "https://sns.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.a.b.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.eu-west-1.amazonaws.com.cn.evil.example/SimpleNotificationService-1.pem",
        "https://sns.eu-west-1.amazonaws.com/?Action=Echo&x=.pem",
        "https://sns.eu-west-1.amazonaws.com/a/b.pem",
        "https://sns.eu-west-1.amazonaws.com/x.txt",
        "https://sns.eu-west-1.amazonaws.com/.pem",
        "https://sns.eu-west-1.amazonaws.com:444/x.pem",
        "http://sns.eu-west-1.amazonaws.com/x.pem",
        "https://10.0.0.1/x.pem",
        "https://sns.eu-west-1.amazonaws.com/x.pem\n",
        "https://user:x@sns.eu-west-1.amazonaws.com/x.pem",
    ],
)
def test_a_certificate_from_elsewhere_is_refused_before_it_could_be_fetched(url: str) -> None:
    request = _request(_complete(NOTIFICATION) | {"SigningCertURL": url})
    with pytest.raises(WrongCertificateError):
        amazon_sns(NOW).signature.certificate_url(request)  # type: ignore[attr-defined]
    with pytest.raises(WrongCertificateError):
        _verify(request)


def test_a_certificate_in_china_is_amazons_too() -> None:
    url = "https://sns.cn-north-1.amazonaws.com.cn/SimpleNotificationService-1.pem"
    assert _verify(_complete(NOTIFICATION | {"SigningCertURL": url})).timestamp is not None


@pytest.mark.parametrize(
    "name",
    [
        "sns.amazonaws.com",
        "sns-cn-north-1.amazonaws.com.cn",
        "sns-us-gov-west-1.amazonaws.com",
        "sns-signing.eu-south-1.amazonaws.com",
    ],
)
def test_the_names_that_amazon_gives_its_certificates_are_accepted(name: str) -> None:
    assert _verify(_complete(NOTIFICATION), signing(ROOT.leaf(name, NOW))).timestamp is not None


@pytest.mark.parametrize(
    "name", ["amazonaws.com", "evil-sns.amazonaws.com", "sns.amazonaws.com.evil.example", "snsx.amazonaws.com", "*"]
)
def test_a_certificate_made_out_to_another_is_refused(name: str) -> None:
    with pytest.raises(WrongCertificateError, match="not the sender"):
        _verify(_complete(NOTIFICATION), signing(ROOT.leaf(name, NOW)))


@pytest.mark.parametrize("days", [-1, 2 * 365])
def test_a_certificate_outside_its_dates_is_refused(days: int) -> None:
    began = NOW - timedelta(days=days)
    leaf = ROOT.leaf("sns.amazonaws.com", began, since=timedelta(0))
    with pytest.raises(WrongCertificateError, match="valid"):
        _verify(_complete(NOTIFICATION), signing(leaf))


def test_another_certificates_key_does_not_fit() -> None:
    with pytest.raises(WrongSignatureError):
        _verify(_complete(NOTIFICATION), signing(ROOT.leaf("sns.amazonaws.com", NOW, key=rsa_key(6))))


def test_without_its_certificate_nothing_can_be_verified() -> None:
    with pytest.raises(CertificateUnavailableError):
        verify(preset_for("amazon_sns", SNS_SETTINGS), request=_request(_complete(NOTIFICATION)), secrets=[], now=NOW)


def test_an_hour_of_retries_is_survived_and_no_day() -> None:
    message = _complete(NOTIFICATION)
    assert _verify(message, at=NOW + timedelta(hours=1)).timestamp is not None
    with pytest.raises(StaleTimestampError):
        _verify(message, at=NOW + timedelta(hours=2, seconds=1))
    with pytest.raises(FutureTimestampError):
        _verify(message, at=NOW - timedelta(hours=2, seconds=1))


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("yesterday", MalformedTimestampError),
        ("2026-03-14T15:09:26", MalformedTimestampError),
        ("", MissingTimestampError),
    ],
)
def test_a_timestamp_that_is_no_time_is_refused(value: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        _verify(_complete(NOTIFICATION) | {"Timestamp": value})


@pytest.mark.parametrize(
    "settings",
    [
        None,
        {},
        {"topic_arns": []},
        {"topic_arns": ["mail"]},
        {"topic_arns": ["arn:aws:sqs:eu-west-1:123456789012:mail"]},
        {"topic_arns": [TOPIC + ":subscription"]},
        {"topic_arns": ["*"]},
        {"topic_arns": TOPIC},
        {"topics": [TOPIC]},
    ],
)
def test_an_endpoint_must_name_its_topics(settings: object) -> None:
    with pytest.raises(InvalidSettingsError) as caught:
        preset_for("amazon_sns", settings)
    assert caught.value.faults[0].pointer.startswith("/settings/topic")


@pytest.mark.parametrize("topic", [TOPIC, TOPIC + ".fifo", "arn:aws-cn:sns:cn-north-1:123456789012:a_B-1"])
def test_any_topics_arn_is_taken(topic: str) -> None:
    assert preset_for("amazon_sns", {"topic_arns": [topic]}).name == "amazon_sns"


def _document(message: dict[str, Any]) -> Any:
    return read_document(presets()["amazon_sns"], _request(message)).document


def test_a_message_that_is_json_is_read_and_the_envelope_stays() -> None:
    document = _document(NOTIFICATION)
    assert document == NOTIFICATION | {"Message": SES_BOUNCE}
    assert not read_document(presets()["amazon_sns"], _request(NOTIFICATION)).as_sent


@pytest.mark.parametrize("text", ["Hello, world", "42", "null", '"quoted"', "", "{broken"])
def test_a_message_that_is_text_stays_text(text: str) -> None:
    assert _document(NOTIFICATION | {"Message": text})["Message"] == text


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (NOTIFICATION, "ses.bounce"),
        (NOTIFICATION | {"Message": '{"notificationType": "Complaint", "mail": {}}'}, "ses.complaint"),
        (NOTIFICATION | {"Message": '{"eventType": "DeliveryDelay", "mail": {}}'}, "ses.delivery_delay"),
        (NOTIFICATION | {"Message": '{"eventType": "Rendering Failure", "mail": {}}'}, "ses.rendering_failure"),
        (NOTIFICATION | {"Message": '{"eventType": "of my own"}'}, "sns.notification"),
        (NOTIFICATION | {"Message": '{"Records": []}'}, "sns.notification"),
        (NOTIFICATION | {"Message": "Hello"}, "sns.notification"),
        (CONFIRMATION, "sns.subscription_confirmation"),
        (UNSUBSCRIBED, "sns.unsubscribe_confirmation"),
    ],
)
def test_what_happened_is_told_by_the_message(message: dict[str, Any], kind: str) -> None:
    found = identify(presets()["amazon_sns"], _request(message), _document(message))
    at = datetime(2026, 3, 14, 15, 9, 26, 655_000, tzinfo=UTC)
    assert found == EventIdentity(message["MessageId"], kind, at)


def test_a_subscription_is_confirmed_by_its_url_and_nothing_else_is() -> None:
    confirm = presets()["amazon_sns"].confirm
    assert confirm(_document(CONFIRMATION)) == CONFIRMATION["SubscribeURL"]
    # To call that of an unsubscription would subscribe again.
    assert confirm(_document(UNSUBSCRIBED)) is None
    assert confirm(_document(NOTIFICATION | {"SubscribeURL": CONFIRMATION["SubscribeURL"]})) is None
    assert confirm("text") is None


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/?Action=ConfirmSubscription",
        "http://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription",
        "https://sns.eu-west-1.amazonaws.com@evil.example/?Action=ConfirmSubscription",
        "https://sns.eu-west-1.amazonaws.com:8080/?Action=ConfirmSubscription",
        "https://sns.eu-west-1.amazonaws.com.evil.example/?Action=ConfirmSubscription",
        "https://169.254.169.254/?latest",
        "",
        None,
    ],
)
def test_a_subscription_is_confirmed_at_amazon_only(url: str | None) -> None:
    assert presets()["amazon_sns"].confirm(_document(CONFIRMATION | {"SubscribeURL": url})) is None


@pytest.mark.parametrize("body", [b"Hello \xe2\x9c\x93", b'{"a": 1}', b"", b"[1]"])
def test_anything_can_be_sent_as_a_message(body: bytes) -> None:
    request = sign(amazon_sns(NOW), secret="", body=body, url=URL, now=NOW)
    message = json.loads(request.body)
    assert (message["Type"], message["TopicArn"], message["Message"]) == ("Notification", TOPIC, body.decode())
    assert request.headers.get("x-amz-sns-message-id") == message["MessageId"]
    assert request.headers.get("x-amz-sns-message-type") == "Notification"
    assert request.headers.get("content-type") == "text/plain; charset=UTF-8"
    assert _verify(request).timestamp == NOW


@each_message
def test_a_message_can_be_signed_anew(message: dict[str, Any]) -> None:
    late = NOW + timedelta(days=30)
    request = sign(amazon_sns(NOW), secret="", body=json.dumps(message).encode(), url=URL, now=late)
    signed = json.loads(request.body)
    assert {name: signed[name] for name in message if name != "Timestamp"} == _without(message, "Timestamp")
    assert _verify(request, at=late).timestamp == late
