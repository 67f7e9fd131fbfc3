"""Reading settings that a person wrote as JSON, with each fault named by its JSON pointer."""

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from crossdock.connectors.webhooks.errors import InvalidSettingsError
from crossdock.kit.errors import Fault
from crossdock.kit.json_pointer import pointer_to

_VALUE_ERROR = "Value error, "


class SettingsPart(BaseModel):
    """A part of an endpoint's settings: unknown names are faults, types are not guessed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


Part = TypeVar("Part", bound=SettingsPart)


def read_settings(part: type[Part], document: object, *, pointer: str = "") -> Part:
    """Make the part from plain JSON values; raises InvalidSettingsError with every fault.

    `pointer` is where the document stands in the caller's own.
    """
    try:
        return part.model_validate(document)
    except ValidationError as error:
        faults = tuple(
            Fault(pointer + pointer_to(fault["loc"]), _sentence(fault["msg"]))
            for fault in error.errors(include_url=False, include_context=False, include_input=False)
        )
    summary = " ".join(f"{fault.pointer or '/'}: {fault.message}" for fault in faults)
    raise InvalidSettingsError(f"The settings are not valid: {summary}", faults)


def _sentence(message: str) -> str:
    text = message.removeprefix(_VALUE_ERROR)
    return text if text.endswith(".") else f"{text}."
