"""A preset: everything that one kind of sender does its own way."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from crossdock.connectors.webhooks import content_types
from crossdock.connectors.webhooks.bodies import ParsedBody
from crossdock.connectors.webhooks.identity import Identify, LocatedIdentity
from crossdock.connectors.webhooks.signature import SignatureMethod

Arrange: TypeAlias = Callable[[ParsedBody], ParsedBody]
# From event type and event id to the headers that the sender adds beside the signature.
Companions: TypeAlias = Callable[[str | None, str | None], Mapping[str, str]]
# From plain JSON settings, and the pointer where they stand, to the preset they describe.
Configure: TypeAlias = Callable[[object, str], "Preset"]


def _as_read(body: ParsedBody) -> ParsedBody:
    return body


def _none(_event_type: str | None, _event_id: str | None) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One kind of sender. `how_to` says in one line what to enter on the sender's side."""

    name: str
    title: str
    how_to: str
    signature: SignatureMethod
    identify: Identify = field(default_factory=LocatedIdentity)
    arrange: Arrange = _as_read
    xml_lists: frozenset[str] = frozenset()
    content_type: str = content_types.JSON
    companions: Companions = _none
    configure: Configure | None = None
