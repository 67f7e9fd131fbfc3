"""CloudEvents 1.0 over HTTP, structured and binary, as drafts of events.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md and, for
structured ones, .../formats/json-format.md.
"""

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import msgspec

from crossdock.features.events.content import JSON, is_json, is_media_type
from crossdock.features.events.drafts import Draft, check_utf8, fault_at

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
CE_PREFIX = "ce-"
_ATTRIBUTE = re.compile(r"[a-z0-9_]{1,64}")
_CONTEXT = frozenset({"specversion", "id", "source", "type", "time", "subject", "datacontenttype"})
_DATA = frozenset({"data", "data_base64"})
_NO_DATA = b"null"

# Reads all of a JSON value and makes nothing of it.
_json_checker = msgspec.json.Decoder(msgspec.Raw)


def is_binary(headers: Mapping[str, str], media_type: str) -> bool:
    """Whether a request carries a CloudEvent in its headers; names in lower case."""
    return "ce-specversion" in headers and not media_type.startswith("application/cloudevents")


def structured(members: dict[str, msgspec.Raw], pointer: str) -> Draft:
    """The event of a JSON object; raises InvalidEventError."""
    attributes = {name: msgspec.json.decode(raw) for name, raw in members.items() if name not in _DATA}
    content_type = attributes.get("datacontenttype") or JSON
    if not isinstance(content_type, str):
        raise fault_at(pointer, "datacontenttype", "datacontenttype must be text.")
    if len(_DATA & members.keys()) > 1:
        raise fault_at(pointer, "data", "A CloudEvent has data or data_base64, not both.")
    return _cloud_event(attributes, _structured_data(members, content_type, pointer), content_type, pointer)


def _structured_data(members: dict[str, msgspec.Raw], content_type: str, pointer: str) -> bytes:
    """The data's own bytes: of a JSON value as written, of base64 and of other text what it stands for."""
    if "data_base64" in members:
        try:
            return b64decode(msgspec.json.decode(members["data_base64"], type=str), validate=True)
        except (Base64Error, ValueError, msgspec.MsgspecError):
            raise fault_at(pointer, "data_base64", "data_base64 is not base64 text.") from None
    if "data" not in members:
        return _NO_DATA
    data = bytes(members["data"])
    if not is_json(content_type) and data.startswith(b'"'):
        return msgspec.json.decode(data, type=str).encode()
    return data


def binary(headers: Mapping[str, str], body: bytes) -> Draft:
    """The event of a request whose headers have its attributes and whose body is its data; raises InvalidEventError."""
    attributes = {
        name.removeprefix(CE_PREFIX): unquote(_unquoted(value))
        for name, value in headers.items()
        if name.startswith(CE_PREFIX)
    }
    content_type = headers.get("content-type", JSON)
    return _cloud_event(attributes, body or (_NO_DATA if is_json(content_type) else b""), content_type, "")


def _unquoted(value: str) -> str:
    """A header's value without the quotes that a producer may have put around it (RFC 9110, quoted-string)."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        return re.sub(r"\\(.)", r"\1", value[1:-1])
    return value


def _cloud_event(attributes: dict[str, Any], payload: bytes, content_type: str, pointer: str) -> Draft:
    _check_attributes(attributes, pointer)
    if not is_media_type(content_type):
        raise fault_at(
            pointer,
            "datacontenttype",
            "datacontenttype is a media type such as text/plain; charset=utf-8, all of it visible ASCII and spaces.",
        )
    if is_json(content_type):
        _check_json(payload, pointer)
    if content_type.partition(";")[0].strip().lower() == JSON:
        content_type = JSON
    extensions = {name: value for name, value in attributes.items() if name not in _CONTEXT}
    return Draft(
        type=attributes["type"],
        payload=payload,
        pointer=pointer,
        content_type=content_type,
        time=_moment(attributes.get("time"), pointer),
        source=attributes["source"],
        subject=attributes.get("subject"),
        attributes=extensions | {"id": attributes["id"]},
    )


def _check_attributes(attributes: dict[str, Any], pointer: str) -> None:
    if attributes.get("specversion") != "1.0":
        raise fault_at(pointer, "specversion", "specversion must be 1.0.")
    for name in ("id", "source", "type"):
        if not isinstance(attributes.get(name), str) or not attributes[name]:
            raise fault_at(pointer, name, f"A CloudEvent needs {name}, a text that is not empty.")
    if not isinstance(attributes.get("subject"), str | None):
        raise fault_at(pointer, "subject", "subject must be text.")
    for name in attributes:
        if name in _DATA or not _ATTRIBUTE.fullmatch(name):
            raise fault_at(pointer, "", f"{name[:80]!r} cannot be an attribute: they have small letters and digits.")


def _check_json(payload: bytes, pointer: str) -> None:
    check_utf8(payload)
    try:
        _json_checker.decode(payload)
    except (msgspec.MsgspecError, RecursionError):
        raise fault_at(pointer, "data", "The data is not JSON, though its content type says so.") from None


def _moment(time: object, pointer: str) -> datetime | None:
    try:
        return msgspec.convert(time, datetime | None)
    except msgspec.ValidationError:
        raise fault_at(pointer, "time", "time is not an RFC 3339 time.") from None
