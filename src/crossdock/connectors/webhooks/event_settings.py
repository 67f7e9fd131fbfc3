"""What a tenant says of a sender that has no preset of its own: where the events stand, and what tells them apart.

`{"events": "items", "event_id": {"expression": "id"}, "event_type": {"header": "X-Type"},
"event_time": {"expression": "at", "unit": "ms"}}`, all of it optional.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Self

from pydantic import Field, model_validator

from crossdock.connectors.webhooks.identity import ExpressionText, LocatedIdentity, Locator, TimeLocator
from crossdock.connectors.webhooks.preset import Preset, Split
from crossdock.connectors.webhooks.settings_reading import SettingsPart
from crossdock.mapping.expressions import compile_expression
from crossdock.mapping.json_values import JsonValue


class EventSettings(SettingsPart):
    """Where the events stand, and in each its id, type and time."""

    events: ExpressionText | None = Field(
        None,
        description="A JMESPath expression over the body that finds the list of events; without it, or where it finds "
        "no list, the body is one event. The expressions below are then over the single event.",
    )
    event_id: Locator | None = Field(None, description="What a redelivery repeats; without it none is known.")
    event_type: Locator | None = Field(None, description="The type of the event, as dotted segments.")
    event_time: TimeLocator | None = Field(None, description="When the event happened.")

    @model_validator(mode="after")
    def _an_id_each(self) -> Self:
        if self.events is not None and self.event_id is not None and self.event_id.header is not None:
            raise ValueError("with events, event_id must be an expression: a header's would be the same for all")
        return self


def with_events(preset: Preset, settings: EventSettings) -> Preset:
    """The preset that finds its events as the settings say."""
    identity = LocatedIdentity(id=settings.event_id, type=settings.event_type, time=settings.event_time)
    if settings.events is None:
        return replace(preset, identify=identity)
    return replace(preset, identify=identity, split=_splitting(settings.events))


def _splitting(expression: str) -> Split:
    compiled = compile_expression(expression)

    def split(document: JsonValue) -> Sequence[JsonValue] | None:
        found = compiled.search(document)
        return found if isinstance(found, list) else None

    return split
