"""What the API takes and shows of endpoints and receipts."""

from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, Field, SecretStr

from crossdock.features.inbound.handlers import HandlerRegistry
from crossdock.features.inbound.models import (
    Endpoint,
    EndpointSecret,
    EndpointStatus,
    EndpointTarget,
    Receipt,
    ReceiptStatus,
    RefusedWebhook,
    WhilePaused,
)
from crossdock.features.inbound.public_url import is_public_url
from crossdock.http.schemas import Input, Name, Reason, View
from crossdock.kit.ids import IdKind, format_id
from crossdock.mapping.expressions import ExpressionError, compile_expression
from crossdock.mapping.patterns import is_event_type

_WEEK_S = 7 * 24 * 3600
_DAY_S = 24 * 3600
_MOST_SOURCES = 200
_MOST_NAMED = 1_000


def _path(text: str) -> str:
    if any(segment in ("", ".", "..") for segment in text.split("/")):
        raise ValueError("no part of a path may be empty, . or ..")
    return text


def _url(text: str) -> str:
    if not is_public_url(text):
        raise ValueError("must be an http or https URL without user name and fragment")
    return text


def _event_type(text: str) -> str:
    if not is_event_type(text):
        raise ValueError("must be letters, digits, - and _ in segments joined by dots, such as order.created")
    return text


def _expression(text: str) -> str:
    try:
        compile_expression(text)
    except ExpressionError as error:
        raise ValueError(error.message) from None
    return text


EndpointPath = Annotated[
    str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._~/-]*$"), AfterValidator(_path)
]
PublicUrl = Annotated[str, Field(max_length=500), AfterValidator(_url)]
EventTypeName = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_event_type)]
ExpressionText = Annotated[str, Field(min_length=1, max_length=4_096), AfterValidator(_expression)]
SecretText = Annotated[SecretStr, Field(min_length=1, max_length=1_000)]


class EndpointSettings(Input):
    """Everything about an endpoint that its owner may change."""

    name: Name
    path: EndpointPath = Field(description="Where it listens: /webhooks/{tenant}/{path}.")
    settings: dict[str, Any] | None = Field(
        default=None, description="The preset's own settings; for `generic`, how the sender signs."
    )
    tolerance_s: int | None = Field(
        default=None, ge=1, le=_WEEK_S, description="How old a signature may be; the preset's own where left out."
    )
    allowed_sources: list[str] = Field(
        default_factory=list, max_length=_MOST_SOURCES, description="Addresses and CIDR blocks; empty for all."
    )
    public_url: PublicUrl | None = Field(
        default=None, description="The URL as the sender calls it, for senders that sign it, behind a proxy."
    )
    event_id_expression: ExpressionText | None = Field(
        default=None, description="JMESPath over {body, headers} that finds the event's id, instead of the preset's."
    )
    event_type: EventTypeName | None = Field(
        default=None, description="The type of every event from here; else the sender's own, such as github.push."
    )
    transformation: ExpressionText | None = Field(
        default=None,
        description="JMESPath over {body, headers, event_type, external_id, received_at, receipt_id, endpoint}; "
        "its result is the event's data. Without it, the body is, byte for byte if it is JSON.",
    )
    target: EndpointTarget = Field(
        default=EndpointTarget.EVENT, description="Publish an event, call a handler, or only store."
    )
    handler: str | None = Field(
        default=None, max_length=100, description="The name of the handler to call, for that target alone."
    )
    ordered: bool = Field(
        default=False, description="Process one after the other, in the order received, instead of side by side."
    )
    while_paused: WhilePaused = Field(
        default=WhilePaused.HOLD, description="Paused, accept and hold what comes, or refuse it with 503."
    )


class EndpointIn(EndpointSettings):
    """A new endpoint."""

    preset: str = Field(max_length=100, description="Who sends; see /webhooks/presets.")
    secret: SecretText | None = Field(
        default=None,
        description="What the sender signs with. Left out, one is made and shown once; where the sender makes it, "
        "the endpoint refuses everything until it is set by rotate-secret.",
    )


class RotateSecretIn(Input):
    """How to change an endpoint's secret."""

    secret: SecretText | None = Field(
        default=None, description="The new one; one is made where left out, unless it is the sender that makes it."
    )
    overlap_s: int = Field(default=_DAY_S, ge=0, le=30 * _DAY_S, description="How long the old one counts as well.")


class SecretOut(View):
    """That there is a secret; itself it is never shown again."""

    created_at: datetime
    expires_at: datetime | None


class EndpointOut(View):
    """An endpoint without its secrets."""

    id: str
    name: str
    path: str
    url: str = Field(description="What to enter on the sender's side.")
    preset: str
    settings: dict[str, Any] | None
    tolerance_s: int | None
    allowed_sources: list[str]
    public_url: str | None
    event_id_expression: str | None
    event_type: str | None
    transformation: str | None
    target: EndpointTarget
    handler: str | None
    ordered: bool
    while_paused: WhilePaused
    status: EndpointStatus = Field(description="paused holds or refuses what comes; disabled answers 404.")
    secrets: list[SecretOut]
    needs: Literal["secret"] | None = Field(description="What is missing; everything is refused until it is there.")
    next_step: str | None = Field(description="What to do about what is missing.")
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(
        cls, endpoint: Endpoint, *, url: str, secrets: Sequence[EndpointSecret], next_step: str | None
    ) -> "EndpointOut":
        """From the stored rows; `next_step` says what to do where the secret is missing."""
        elsewhere = {"id", "url", "settings", "secrets", "needs", "next_step"}
        return cls(
            id=format_id(IdKind.ENDPOINT, endpoint.id),
            url=url,
            settings=endpoint.scheme,
            secrets=[SecretOut.model_validate(secret) for secret in secrets],
            needs=None if next_step is None else "secret",
            next_step=next_step,
            **{name: getattr(endpoint, name) for name in EndpointOut.model_fields if name not in elsewhere},
        )


class EndpointCreated(EndpointOut):
    """An endpoint, and the secret that was made for it."""

    secret: str | None = Field(default=None, repr=False, description="Shown this once; null if you brought your own.")


class RefusalOut(View):
    """A webhook that was refused, without what is secret in it, and what may be the matter."""

    id: str
    reason: str = Field(description="The error's code, such as signature_wrong.")
    message: str
    hints: list[str] = Field(description="What may be the matter and what to do, the most likely first.")
    method: str
    url: str = Field(description="As the hub understood it.")
    headers: list[tuple[str, str]] = Field(description="The first; of signatures and long tokens the beginning alone.")
    body_start: str = Field(description="The first 300 characters, secrets masked, decompressed.")
    body_bytes: int
    source_address: str | None
    correlation_id: str
    refused_at: datetime

    @classmethod
    def of(cls, refusal: RefusedWebhook) -> "RefusalOut":
        """From the stored row."""
        shown = {name: getattr(refusal, name) for name in cls.model_fields if name != "id"}
        return cls(id=format_id(IdKind.REFUSAL, refusal.id), **shown)


class LastRefusal(View):
    """The newest refusal of which there is a sample."""

    reason: str
    message: str
    hints: list[str]
    refused_at: datetime


class EndpointStatistics(View):
    """What became of the webhooks of the last hours; what was last, was so at any time."""

    hours: int
    received: int = Field(description="Webhooks accepted and stored, whatever became of them.")
    waiting: int
    held: int
    processed: int = Field(description="Published, handled or, where that is the target, stored; of a batch, each.")
    dead: int
    refused: int = Field(description="Wrong signature, stale, or from an address that is not allowed.")
    refused_by_reason: dict[str, int] = Field(description="By the error's code, the most frequent first.")
    verified_share: float | None = Field(description="Of those received and refused, 0 to 1; null without any.")
    median_processing_s: float | None = Field(description="Seconds from received to processed.")
    p95_processing_s: float | None = Field(description="Seconds within which 95 of 100 were processed.")
    last_received_at: datetime | None
    last_processed_at: datetime | None = Field(description="Within these hours.")
    last_refusal: LastRefusal | None


class ReceiptOut(View):
    """A webhook as it was received, without its body."""

    id: str
    parent_id: str | None = Field(description="The webhook that brought this event among others; its bytes are there.")
    endpoint_id: str
    status: ReceiptStatus
    external_id: str | None
    event_type: str | None
    method: str
    url: str
    headers: list[tuple[str, str]] = Field(description="In the order received; shared secrets are masked.")
    content_type: str | None
    size_bytes: int
    source_address: str | None
    correlation_id: str
    try_count: int
    error: str | None
    event_id: str | None
    received_at: datetime
    processed_at: datetime | None

    @classmethod
    def of(cls, receipt: Receipt, size_bytes: int) -> "ReceiptOut":
        """From the stored row."""
        return cls(**_shown(receipt, size_bytes))


class ReceiptDetail(ReceiptOut):
    """A webhook as it was received, byte for byte."""

    body_base64: str | None = Field(description="null for a body in the file store: fetch it from `body_url`.")
    body_url: str = Field(description="Where the body is to be had, byte for byte.")

    @classmethod
    def whole(cls, receipt: Receipt) -> "ReceiptDetail":
        """From the stored row."""
        stored = receipt.body_file is not None
        return cls(
            **_shown(receipt, receipt.body_bytes or len(receipt.body)),
            body_base64=None if stored else b64encode(receipt.body).decode("ascii"),
            body_url=body_path(receipt.id),
        )


def body_path(receipt_id: UUID) -> str:
    """Where the API has a receipt's body."""
    return f"/api/v1/webhooks/receipts/{format_id(IdKind.RECEIPT, receipt_id)}/body"


def _shown(receipt: Receipt, size_bytes: int) -> dict[str, Any]:
    changed = {
        "id": format_id(IdKind.RECEIPT, receipt.id),
        "parent_id": None if receipt.parent_id is None else format_id(IdKind.RECEIPT, receipt.parent_id),
        "endpoint_id": format_id(IdKind.ENDPOINT, receipt.endpoint_id),
        "event_id": None if receipt.event_id is None else format_id(IdKind.EVENT, receipt.event_id),
        "size_bytes": size_bytes,
    }
    return {name: getattr(receipt, name) for name in ReceiptOut.model_fields if name not in changed} | changed


class RetryIn(Input):
    """Which dead receipts to try again: those that fit all that is given; all of them where nothing is."""

    since: AwareDatetime | None = Field(default=None, description="Received at this time or later.")
    until: AwareDatetime | None = Field(default=None, description="Received before this time.")
    error: Reason | None = Field(default=None, description="A text that their error contains, in any case.")
    receipt_ids: list[str] | None = Field(
        default=None, max_length=_MOST_NAMED, description="These alone; those that are not dead are left out."
    )


class RetryOut(View):
    """How many dead receipts are tried again."""

    retried: int


class HandlerOut(View):
    """A handler that this hub has installed."""

    name: str
    description: str | None = Field(description="The first line of its docstring.")

    @classmethod
    def all_of(cls, handlers: HandlerRegistry) -> "list[HandlerOut]":
        """All that there are."""
        return [cls(name=name, description=text) for name, text in handlers.descriptions().items()]
