"""Amazon SNS over HTTP, and what comes through it (SES events, S3 notifications, Textract, alarms).

Signed are some of the envelope's members, with the key of a certificate that Amazon keeps at its own
host, where TLS vouches for it
(https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html). Everybody can have a
topic, and Amazon signs for all of them: settings name those that are accepted, `{"topic_arns": [...]}`.

A `Message` that is a JSON object or array becomes one in the document; the envelope stays around it.
Raw message delivery has no envelope and no signature, and cannot be accepted.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, ClassVar
from uuid import uuid4

from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from pydantic import Field

from crossdock.connectors.webhooks.bodies import BodyFormat, ParsedBody, parse_json
from crossdock.connectors.webhooks.certificate_signature import CertificateSignature, decoded_signature
from crossdock.connectors.webhooks.certificates import check_certificate_url
from crossdock.connectors.webhooks.errors import (
    InvalidBodyError,
    MalformedSignatureError,
    MissingSignatureError,
    MissingTimestampError,
    UnknownTopicError,
    WrongSignatureError,
)
from crossdock.connectors.webhooks.hmac_signature import check_age, read_time, write_time
from crossdock.connectors.webhooks.identity import EventIdentity, member, text_of
from crossdock.connectors.webhooks.preset import Configured, Preset
from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.connectors.webhooks.scheme import TimestampRule
from crossdock.connectors.webhooks.settings_reading import SettingsPart
from crossdock.connectors.webhooks.signature import ReadsBody, Verified
from crossdock.connectors.webhooks.times import time_of
from crossdock.mapping.json_values import JsonValue

_NOTIFICATION = "Notification"
_SUBSCRIPTION = "SubscriptionConfirmation"
_SIGNED_OF_CONFIRMATIONS = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
_SIGNED: Mapping[str, tuple[str, ...]] = {
    _NOTIFICATION: ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    _SUBSCRIPTION: _SIGNED_OF_CONFIRMATIONS,
    "UnsubscribeConfirmation": _SIGNED_OF_CONFIRMATIONS,
}
_OPTIONAL = "Subject"
_ALGORITHMS: Mapping[str, HashAlgorithm] = {
    "1": SHA1(),  # noqa: S303 - what Amazon signs with until a topic is set to version 2
    "2": SHA256(),
}
# SNS tries for up to an hour under the first timestamp; another hour covers clocks and queues. Within
# it, the message's id tells a replay.
_RULE = TimestampRule(field="Timestamp", unit="iso8601", tolerance_s=2 * 3600)

# A region and nothing else: sns.s3-us-west-2.amazonaws.com is a bucket, and anybody's. The last is `trial_url`'s.
_HOST = re.compile(r"sns\.(?:[a-z]{2,4}(?:-[a-z]{2,12}){1,3}-\d{1,2}|crossdock-testing)\.amazonaws\.com(?:\.cn)?")
# One step and no query: at the same host SNS's own API answers with what it is asked.
_PATH = re.compile(r"/[A-Za-z0-9_-]{1,200}\.pem")
# sns.amazonaws.com; of its own in China, GovCloud and the regions that one opts into.
_NAME = re.compile(r"sns(?:-signing)?(?:[.-][a-z0-9-]{1,40})?\.amazonaws\.com(?:\.cn)?")
_SUBSCRIBE_URL = re.compile(r"https://(?P<host>[a-z0-9.-]{1,253})(?::443)?/\?[!-~]{1,2000}", re.ASCII)
_ARN = r"^arn:aws[a-z-]*:sns:[a-z0-9-]{1,40}:\d{12}:[A-Za-z0-9_-]{1,256}(\.fifo)?$"
_TRIAL_TOPIC = "arn:aws:sns:us-east-1:123456789012:crossdock-testing"

_CONTENT_TYPE = "text/plain; charset=UTF-8"
_TYPE_HEADER = "x-amz-sns-message-type"
_ID_HEADER = "x-amz-sns-message-id"
_TOPIC_HEADER = "x-amz-sns-topic-arn"
_RAW_HEADER = "x-amz-sns-rawdelivery"
_WORD_START = re.compile(r"(?<=[a-z])(?=[A-Z])|\s+")


class AmazonSnsSettings(SettingsPart):
    """Which topics' messages are accepted."""

    topic_arns: list[Annotated[str, Field(pattern=_ARN)]] = Field(
        min_length=1, max_length=50, description="The ARNs of the accepted topics; those of others are refused."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AmazonSnsSignature(CertificateSignature, ReadsBody):
    """The key of a certificate at Amazon's own host, over a message of one of the accepted topics."""

    topic_arns: frozenset[str] = field(default=frozenset())

    trial_url: ClassVar[str] = "https://sns.crossdock-testing.amazonaws.com/SimpleNotificationService-testing.pem"
    needs_issuers: ClassVar[bool] = False

    @property
    def needs_secret(self) -> bool:
        """False: the certificate and the topics are all."""
        return False

    def check_secret(self, secret: str, *, pointer: str = "") -> None:
        """Any text will do: it is never used."""

    def new_secret(self) -> str:
        """The empty text."""
        return ""

    def certificate_url(self, request: InboundRequest) -> str:
        """The envelope's URL; raises the WebhookRefusedError of a message that need not be looked at further."""
        return self._certificate_url(_envelope(request))

    def verify(
        self,
        request: InboundRequest,
        *,
        secrets: Sequence[str],  # noqa: ARG002 - Amazon uses none
        now: datetime,
        tolerance_s: int | None = None,
    ) -> Verified:
        """Accept a message of an accepted topic that Amazon signed, recently enough."""
        envelope = _envelope(request)
        self._certificate_url(envelope)
        certificate = self.known_certificate()
        certificate.check_dates(now)
        certificate.check_name(_NAME)
        signature = decoded_signature(_text(envelope, "Signature"), "member Signature")
        if not certificate.signed(signature, _content(envelope), _ALGORITHMS[_text(envelope, "SignatureVersion")]):
            raise WrongSignatureError(
                "The message is not signed with the key of Amazon's certificate: it was changed on its way, or forged."
            )
        return Verified(None, check_age(_text(envelope, "Timestamp"), _RULE, now, tolerance_s))

    def sign(
        self,
        request: InboundRequest,
        *,
        secrets: Sequence[str],  # noqa: ARG002 - Amazon uses none
        now: datetime,
    ) -> InboundRequest:
        """The body as a signed message: an envelope is signed anew, anything else becomes its Message."""
        signer = self.known_signer()
        topic = min(self.topic_arns, default=_TRIAL_TOPIC)
        envelope = _new_envelope(request, topic_arn=topic) | {
            "Timestamp": write_time(now, _RULE),
            "SigningCertURL": signer.url,
        }
        signature = signer.sign(_content(envelope), _ALGORITHMS[_text(envelope, "SignatureVersion")])
        names = {_TYPE_HEADER: "Type", _ID_HEADER: "MessageId", _TOPIC_HEADER: "TopicArn"}
        headers = {header: _text(envelope, name) for header, name in names.items()} | {"Content-Type": _CONTENT_TYPE}
        return replace(
            request,
            headers=request.headers.replaced(headers.items()),
            body=json.dumps(envelope | {"Signature": signature}, indent=2, ensure_ascii=False).encode(),
        )

    def _certificate_url(self, envelope: Mapping[str, JsonValue]) -> str:
        topic = _text(envelope, "TopicArn")
        if topic not in self.topic_arns:
            raise UnknownTopicError(f"The topic {topic[:300]!r} is not among the endpoint's topic_arns.")
        return check_certificate_url(_text(envelope, "SigningCertURL"), host=_HOST, path=_PATH, sender="Amazon SNS")


def _envelope(request: InboundRequest) -> Mapping[str, JsonValue]:
    """The message, with all that is signed and needed in it; raises a WebhookRefusedError."""
    envelope = _message_in(request.body)
    if envelope is None:
        if (request.headers.get(_RAW_HEADER) or "").lower() == "true":
            raise MissingSignatureError(
                "The message came by raw message delivery, which carries no signature: switch that off in the "
                "subscription."
            )
        raise MalformedSignatureError("The body is not a message of Amazon SNS, with its Type and Signature.")
    if not envelope.get("Signature"):
        raise MissingSignatureError("The message has no Signature.")
    if not envelope.get("Timestamp"):
        raise MissingTimestampError("The message has no Timestamp.")
    read_time(_text(envelope, "Timestamp"), _RULE)
    version = _text(envelope, "SignatureVersion")
    if version not in _ALGORITHMS:
        raise MalformedSignatureError(f"The signature version {version[:40]!r} is not known; there are 1 and 2.")
    _content(envelope)
    return envelope


def _message_in(body: bytes) -> dict[str, JsonValue] | None:
    """The body, if it is a JSON object of one of the known types."""
    try:
        document = parse_json(body)
    except InvalidBodyError:
        return None
    if not isinstance(document, dict) or text_of(document.get("Type")) not in _SIGNED:
        return None
    return document


def _text(envelope: Mapping[str, JsonValue], name: str) -> str:
    value = envelope.get(name)
    if not isinstance(value, str):
        raise MalformedSignatureError(f"The message has no text {name}.")
    return value


def _content(envelope: Mapping[str, JsonValue]) -> bytes:
    """What is signed: each name and its value, one to a line."""
    names = _SIGNED[_text(envelope, "Type")]
    present = [name for name in names if name != _OPTIONAL or envelope.get(_OPTIONAL) is not None]
    return "".join(f"{name}\n{_text(envelope, name)}\n" for name in present).encode()


def _new_envelope(request: InboundRequest, *, topic_arn: str) -> dict[str, JsonValue]:
    """The body as an envelope, with all members that it lacks but the time and the signature."""
    given = _message_in(request.body)
    if given is None:
        given = {"Type": _NOTIFICATION, "Message": request.body.decode("utf-8", "replace")}
    base = f"https://sns.us-east-1.amazonaws.com/?TopicArn={topic_arn}&Action="
    usual: dict[str, JsonValue] = {
        "MessageId": request.headers.get(_ID_HEADER) or str(uuid4()),
        "TopicArn": topic_arn,
        "Message": "",
        "SignatureVersion": "2",
    }
    if given["Type"] == _NOTIFICATION:
        usual["UnsubscribeURL"] = f"{base}Unsubscribe"
    else:
        usual |= {"Token": "0", "SubscribeURL": f"{base}ConfirmSubscription&Token=0"}
    return usual | given


def _arrange(request: InboundRequest, body: ParsedBody) -> ParsedBody:
    """The envelope that was verified, whatever the Content-Type, which is not signed, calls it."""
    envelope = _message_in(request.body)
    if envelope is None:
        return body
    try:
        parsed = parse_json(_text(envelope, "Message").encode())
    except (InvalidBodyError, MalformedSignatureError):
        return ParsedBody(BodyFormat.JSON, envelope)
    # A number or a word in a message is text that somebody wrote.
    return ParsedBody(BodyFormat.JSON, envelope | {"Message": parsed} if isinstance(parsed, dict | list) else envelope)


def _identify(_request: InboundRequest, document: JsonValue) -> EventIdentity:
    return EventIdentity(
        id=text_of(member(document, "MessageId")),
        type=_type_of(document),
        time=time_of(member(document, "Timestamp")),
    )


def _type_of(document: JsonValue) -> str | None:
    kind = text_of(member(document, "Type"))
    if kind is None:
        return None
    # Events that SES publishes say eventType; the feedback that it sends of itself, notificationType.
    mail = text_of(member(document, "Message", "eventType")) or text_of(member(document, "Message", "notificationType"))
    if kind == _NOTIFICATION and mail is not None and isinstance(member(document, "Message", "mail"), dict):
        return f"ses.{_words(mail)}"
    return f"sns.{_words(kind)}"


def _words(name: str) -> str:
    """`DeliveryDelay` and `Rendering Failure` as `delivery_delay` and `rendering_failure`."""
    return _WORD_START.sub("_", name.strip()).lower()


def _confirm(document: JsonValue) -> str | None:
    """The URL that makes a subscription of ours count; only at Amazon's own host."""
    url = text_of(member(document, "SubscribeURL"))
    if member(document, "Type") != _SUBSCRIPTION or url is None:
        return None
    found = _SUBSCRIBE_URL.fullmatch(url)
    return url if found is not None and _HOST.fullmatch(found["host"]) else None


def _companions(event_type: str | None, event_id: str | None) -> Mapping[str, str]:
    return {_TYPE_HEADER: event_type or _NOTIFICATION, _ID_HEADER: event_id or str(uuid4())}


def _configure(settings: AmazonSnsSettings) -> Preset:
    return replace(AMAZON_SNS, signature=AmazonSnsSignature(topic_arns=frozenset(settings.topic_arns)))


AMAZON_SNS = Preset(
    name="amazon_sns",
    title="Amazon SNS",
    how_to="Set topic_arns here, then subscribe the URL to the topic (HTTPS, not raw); it is confirmed by itself.",
    signature=AmazonSnsSignature(),
    identify=_identify,
    arrange=_arrange,
    confirm=_confirm,
    content_type=_CONTENT_TYPE,
    companions=_companions,
    configured=Configured(AmazonSnsSettings, _configure),
    needs_settings=True,
)
