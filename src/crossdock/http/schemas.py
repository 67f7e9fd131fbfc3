"""What the bodies of requests and answers have in common."""

from typing import Annotated, Any

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

from crossdock.mapping.json_values import JsonValue, NotJsonError, plain_copy


class Input(BaseModel):
    """A request's body: a word that we do not know is a mistake, and said to be one."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, hide_input_in_errors=True)


class View(BaseModel):
    """An answer's body."""

    model_config = ConfigDict(from_attributes=True, hide_input_in_errors=True)


# PostgreSQL cannot hold a NUL, and nobody means a control character in a name.
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
ShortName = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")]


def _plain_json(value: object) -> JsonValue:
    """The value, when it can be written as JSON again: here, in the audit log, and in every answer."""
    try:
        copy = plain_copy(value)
        msgspec.json.encode(copy)
    except NotJsonError as error:
        raise ValueError(f"{error.path or 'the value'}: {error.message}") from None
    except UnicodeEncodeError:
        raise ValueError("a text holds half a character (a lone surrogate)") from None
    return copy


# Python's parser takes more than JSON is, and deeper than answers can be written.
AnyJson = Annotated[Any, AfterValidator(_plain_json)]
