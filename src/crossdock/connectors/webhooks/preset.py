"""A preset: everything that one kind of sender does its own way."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeAlias, TypeVar

from crossdock.connectors.webhooks import content_types
from crossdock.connectors.webhooks.bodies import ParsedBody
from crossdock.connectors.webhooks.identity import Identify, LocatedIdentity
from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.connectors.webhooks.settings_reading import SettingsPart, read_settings
from crossdock.connectors.webhooks.signature import SignatureMethod
from crossdock.mapping.json_values import JsonValue


@dataclass(frozen=True, slots=True)
class Answer:
    """What to answer a sender; `content_type` is None for an empty body."""

    status: int = 200
    body: bytes = b""
    content_type: str | None = None


class SecretOrigin(StrEnum):
    """Who makes the secret that a sender signs with: the hub, to be entered there, or the sender."""

    HUB = "hub"
    SENDER = "sender"


# From a request and its body as read to the body as a document to work with.
Arrange: TypeAlias = Callable[[InboundRequest, ParsedBody], ParsedBody]
# From event type and event id to the headers that the sender adds beside the signature.
Companions: TypeAlias = Callable[[str | None, str | None], Mapping[str, str]]
# From a document to the single events in it; None for a document that is one event itself.
Split: TypeAlias = Callable[[JsonValue], Sequence[JsonValue] | None]
# The answer to a request that only tries whether an endpoint is there, before anything is verified.
Handshake: TypeAlias = Callable[[InboundRequest], Answer | None]
# The answer to a verified request that is no event, and is not stored.
Reply: TypeAlias = Callable[[InboundRequest, JsonValue], Answer | None]
# From a document to the URL that has to be called, once, before the sender sends anything else.
Confirm: TypeAlias = Callable[[JsonValue], str | None]


def _as_read(_request: InboundRequest, body: ParsedBody) -> ParsedBody:
    return body


def _none(_event_type: str | None, _event_id: str | None) -> Mapping[str, str]:
    return {}


def _one(_document: JsonValue) -> None:
    return None


def _nothing(_request: InboundRequest, _document: JsonValue = None) -> None:
    return None


Part = TypeVar("Part", bound=SettingsPart)


@dataclass(frozen=True, slots=True)
class Configured(Generic[Part]):
    """The settings that an endpoint may give a preset, and what they make of it."""

    settings: type[Part]
    apply: Callable[[Part], "Preset"]

    def preset(self, document: object, *, pointer: str) -> "Preset":
        """The preset that these plain JSON values describe; raises InvalidSettingsError with each fault."""
        return self.apply(read_settings(self.settings, document, pointer=pointer))


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One kind of sender. `how_to` says in one line what to enter on the sender's side.

    `accepted` and `refused` are answered where the sender wants to hear something of its own.
    `identify` is asked about each event that `split` finds. `challenge` is the WWW-Authenticate of a
    refusal. The values of `secret_headers` (lower case) are never stored. With `needs_settings`, the
    preset proves nothing until it has settings of the endpoint's own.
    """

    name: str
    title: str
    how_to: str
    signature: SignatureMethod
    secret_from: SecretOrigin = SecretOrigin.HUB
    identify: Identify = field(default_factory=LocatedIdentity)
    arrange: Arrange = _as_read
    split: Split = _one
    handshake: Handshake = _nothing
    reply: Reply = _nothing
    confirm: Confirm = _one
    accepted: Answer | None = None
    refused: Answer | None = None
    challenge: str | None = None
    secret_headers: frozenset[str] = frozenset()
    xml_lists: frozenset[str] = frozenset()
    content_type: str = content_types.JSON
    companions: Companions = _none
    configured: Configured[Any] | None = None
    needs_settings: bool = False
