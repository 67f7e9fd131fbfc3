"""What the API takes and shows of subscriptions, deliveries and attempts."""

from base64 import b64encode
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from crossdock.features.deliveries.models import (
    Attempt,
    BodyFormat,
    Delivery,
    DeliveryKind,
    DeliveryStatus,
    KeyKind,
    Subscription,
    SubscriptionKey,
    SubscriptionStatus,
)
from crossdock.features.deliveries.policies import RetryPolicy
from crossdock.gateway.destination_auth import DestinationAuth, NoAuth
from crossdock.kit.errors import InvalidInputError
from crossdock.kit.ids import IdKind, format_id
from crossdock.mapping.expressions import compile_expression
from crossdock.mapping.patterns import Pattern

_MOST_PATTERNS = 100
_DAY_S = 86_400


def _pattern(text: str) -> str:
    try:
        return Pattern.parse(text).text
    except InvalidInputError as error:
        raise ValueError(error.message) from None


def _expression(text: str) -> str:
    try:
        compile_expression(text)
    except InvalidInputError as error:
        raise ValueError(error.message) from None
    return text


EventPattern = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_pattern)]
ExpressionText = Annotated[str, Field(min_length=1, max_length=4_096), AfterValidator(_expression)]


class SubscriptionSettings(BaseModel):
    """Everything about a subscription that its owner decides."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=2_000)
    url: str = Field(min_length=1, max_length=500, description="HTTPS; http only to this machine, where allowed.")
    event_types: list[EventPattern] = Field(
        min_length=1, max_length=_MOST_PATTERNS, description="Types, with `*` for whole segments: `order.*`."
    )
    filter: ExpressionText | None = Field(
        default=None, description="JMESPath over {id, type, timestamp, data}; only events it holds for are sent."
    )
    transformation: ExpressionText | None = Field(
        default=None, description="JMESPath over the same document; its result becomes the body."
    )
    format: BodyFormat = Field(default=BodyFormat.ENVELOPE, description="What the body is without a transformation.")
    content_type: str | None = Field(default=None, max_length=200, pattern=r"^[\x21-\x7e][\x20-\x7e]*$")
    headers: dict[str, str] = Field(
        default_factory=dict, description="Sent with each delivery; shown to readers, so secrets go into `auth`."
    )
    auth: DestinationAuth = Field(default_factory=NoAuth, description="How to sign in at the destination.")
    timeout_s: int = Field(default=30, ge=5, le=300)
    retry_policy: RetryPolicy = Field(default_factory=RetryPolicy)
    max_concurrency: int = Field(default=20, ge=1, le=1_000)
    rate_limit_per_s: float | None = Field(default=None, ge=0.001, le=100_000)
    ordered: bool = Field(default=False, description="Send strictly one after another, in order of acceptance.")


class SubscriptionIn(SubscriptionSettings):
    """A new subscription."""

    signing: KeyKind = Field(default=KeyKind.SYMMETRIC, description="Standard Webhooks: HMAC, or ed25519.")
    secret: str | None = Field(
        default=None, max_length=200, description="A signing secret of your own (`whsec_…` or `whsk_…`)."
    )
    verify: bool = Field(default=True, description="Send a verification request now; else call /verify later.")


class RotateIn(BaseModel):
    """How to rotate a signing secret."""

    model_config = ConfigDict(extra="forbid")

    overlap_s: int = Field(default=_DAY_S, ge=0, le=30 * _DAY_S, description="How long both secrets sign.")
    signing: KeyKind | None = Field(default=None, description="Change the kind of signature.")
    secret: str | None = Field(default=None, max_length=200)


class SigningKeyOut(BaseModel):
    """A signing key; a symmetric secret itself is shown once, when it is made."""

    id: str
    signing: KeyKind
    public_key: str | None
    created_at: datetime
    expires_at: datetime | None

    @classmethod
    def of(cls, key: SubscriptionKey) -> "SigningKeyOut":
        """From the stored row."""
        return cls(
            id=format_id(IdKind.SIGNING_KEY, key.id),
            signing=key.kind,
            public_key=key.public_key,
            created_at=key.created_at,
            expires_at=key.expires_at,
        )


class SubscriptionOut(BaseModel):
    """A subscription without its secrets."""

    id: str
    name: str
    description: str
    url: str
    event_types: list[str]
    filter: str | None
    transformation: str | None
    format: BodyFormat
    content_type: str | None
    headers: dict[str, str]
    auth_kind: str
    timeout_s: int
    retry_policy: dict[str, Any]
    max_concurrency: int
    rate_limit_per_s: float | None
    ordered: bool
    status: SubscriptionStatus
    status_reason: str | None
    failed_in_row: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, subscription: Subscription) -> "SubscriptionOut":
        """From the stored row."""
        return cls(
            id=format_id(IdKind.SUBSCRIPTION, subscription.id),
            format=subscription.body_format,
            **{name: getattr(subscription, name) for name in cls.model_fields if name not in {"id", "format"}},
        )


class SubscriptionDetail(SubscriptionOut):
    """A subscription with its signing keys."""

    keys: list[SigningKeyOut] = Field(default_factory=list)


class SubscriptionCreated(SubscriptionDetail):
    """What is answered once, when a secret was made or a destination was tried."""

    secret: str | None = Field(default=None, description="Shown once; give it to the receiver.")
    verification: "DeliveryDetail | None" = None


class AttemptOut(BaseModel):
    """One attempt: what was sent, what came back."""

    number: int
    started_at: datetime
    duration_ms: float
    url: str
    request_headers: dict[str, Any]
    request_body: str | None
    status_code: int | None
    error: str | None
    response_headers: dict[str, Any] | None
    response_body: str | None
    response_body_base64: str | None
    response_truncated: bool
    remote_address: str | None

    @classmethod
    def of(cls, attempt: Attempt) -> "AttemptOut":
        """From the stored row; a response that is not UTF-8 is shown in base64."""
        text, encoded = _readable(attempt.response_body)
        return cls(
            number=attempt.number,
            started_at=attempt.started_at,
            duration_ms=round(attempt.duration_ms, 3),
            url=attempt.url,
            request_headers=attempt.request_headers,
            request_body=_readable(attempt.request_body)[0],
            status_code=attempt.status_code,
            error=attempt.error,
            response_headers=attempt.response_headers,
            response_body=text,
            response_body_base64=encoded,
            response_truncated=attempt.response_truncated,
            remote_address=attempt.remote_address,
        )


class DeliveryOut(BaseModel):
    """A delivery as lists show it; `next_attempt_at` while it is pending."""

    id: str
    subscription_id: str
    event_id: str
    message_id: str = Field(description="The webhook-id that the receiver sees.")
    kind: DeliveryKind
    status: DeliveryStatus
    attempts: int
    next_attempt_at: datetime | None
    expires_at: datetime
    finished_at: datetime | None
    last_status_code: int | None
    error: str | None
    created_at: datetime

    @classmethod
    def of(cls, delivery: Delivery) -> "DeliveryOut":
        """From the stored row."""
        return cls(
            id=format_id(IdKind.DELIVERY, delivery.id),
            subscription_id=format_id(IdKind.SUBSCRIPTION, delivery.subscription_id),
            event_id=format_id(IdKind.EVENT, delivery.event_id),
            message_id=format_id(IdKind.DELIVERY, delivery.message_id),
            kind=delivery.kind,
            status=delivery.status,
            attempts=delivery.attempt_count,
            next_attempt_at=delivery.due_at if delivery.status is DeliveryStatus.PENDING else None,
            expires_at=delivery.expires_at,
            finished_at=delivery.finished_at,
            last_status_code=delivery.last_status_code,
            error=delivery.error,
            created_at=delivery.created_at,
        )


class DeliveryDetail(DeliveryOut):
    """A delivery with every attempt, first to last."""

    history: list[AttemptOut] = Field(default_factory=list)


class ReplayIn(BaseModel):
    """Which failed deliveries to send again."""

    model_config = ConfigDict(extra="forbid")

    since: AwareDatetime = Field(description="Failed and expired deliveries created from then on.")


class ReplayOut(BaseModel):
    """How many deliveries were put on their way again; `more` when one call could not take all."""

    replayed: int
    more: bool


class SubscriptionStats(BaseModel):
    """How a subscription does."""

    pending: int = Field(description="Waiting now; counted to 100,000 at most.")
    delivered_24h: int
    failed_24h: int
    breaker: str
    held_until: datetime | None


def _readable(body: bytes | None) -> tuple[str | None, str | None]:
    if body is None:
        return None, None
    try:
        return body.decode(), None
    except UnicodeDecodeError:
        return None, b64encode(body).decode()
