"""A sender made up for tests: brings several events at once, wants to be confirmed, says when things happened."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType

import msgspec
import pytest

from crossdock.connectors.webhooks import EventIdentity, InboundRequest, Preset
from crossdock.connectors.webhooks.identity import member, text_of
from crossdock.connectors.webhooks.presets import catalogue
from crossdock.connectors.webhooks.presets.generic import NONE
from crossdock.mapping.json_values import JsonValue


def _split(document: JsonValue) -> Sequence[JsonValue] | None:
    return document if isinstance(document, list) else None


def _identify(_request: InboundRequest, document: JsonValue) -> EventIdentity:
    time = member(document, "time")
    return EventIdentity(
        id=text_of(member(document, "id")),
        type=text_of(member(document, "type")),
        time=datetime.fromisoformat(time) if isinstance(time, str) else None,
    )


def _confirm(document: JsonValue) -> str | None:
    return text_of(member(document, "confirm_url"))


BATCHES = replace(NONE, name="batches", split=_split, identify=_identify, confirm=_confirm)


def make_known(patch: pytest.MonkeyPatch, *presets: Preset) -> None:
    """Have these presets beside the real ones."""
    known = dict(catalogue._PRESETS) | {preset.name: preset for preset in presets}
    patch.setattr(catalogue, "_PRESETS", MappingProxyType(known))


def batch(*ids: object, **more: object) -> bytes:
    """A body with one event for each id."""
    return msgspec.json.encode([{"id": str(one), "type": "item.changed", **more} for one in ids])
