"""The data model of HMAC signatures: what a sender signs, and where it puts the result.

Most providers' presets and every tenant's own sender are values of HmacScheme. GitHub, for example:
`{"header": "X-Hub-Signature-256", "prefix": "sha256="}`.
"""

import base64
import re
import secrets as random_secrets
from collections.abc import Callable
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from crossdock.connectors.webhooks.errors import InvalidSettingsError, MalformedSignatureError
from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.connectors.webhooks.settings_reading import SettingsPart, read_settings
from crossdock.kit.errors import Fault

# What stands in a header name for 1, 2, … when the sender numbers its signatures.
NUMBER = "{n}"
_WEEK_S = 7 * 24 * 3600
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_HEADER_PLACEHOLDER = "header:"
_STANDARD_PREFIX = "whsec_"
# As long as the longest digest's block is useful; RFC 2104 asks for at least the digest's length.
_NEW_SECRET_BYTES = 32

_Fill = Callable[[InboundRequest, str], bytes]
_FILLS: dict[str, _Fill] = {
    "body": lambda request, _: request.body,
    "timestamp": lambda _, timestamp: timestamp.encode(),
    "url": lambda request, _: request.url.encode(),
    "method": lambda request, _: request.method.upper().encode(),
}


def header_name(text: str) -> str:
    """Accept the name of an HTTP header (RFC 9110, a token); a validator."""
    if not _TOKEN.fullmatch(text):
        raise ValueError(f"{text[:100]!r} cannot be the name of an HTTP header")
    return text


def _signature_header_name(text: str) -> str:
    header_name(text.replace(NUMBER, "1", 1))
    return text


def _placeholders(template: str) -> str:
    names = _PLACEHOLDER.findall(template)
    for name in names:
        if name.startswith(_HEADER_PLACEHOLDER):
            header_name(name.removeprefix(_HEADER_PLACEHOLDER))
        elif name not in _FILLS:
            known = ", ".join(f"{{{one}}}" for one in _FILLS)
            raise ValueError(f"{{{name}}} is not known; there are {known} and {{header:NAME}}")
    if "{" in _PLACEHOLDER.sub("", template) or "}" in _PLACEHOLDER.sub("", template):
        raise ValueError("a brace is not closed or not opened")
    if "body" not in names:
        raise ValueError("{body} is missing: a signature that leaves it out does not protect it")
    return template


HeaderName = Annotated[str, AfterValidator(header_name)]


class TimestampRule(SettingsPart):
    """Where the time of signing stands, and how far it may be from now."""

    header: HeaderName | None = Field(None, description="The header that holds it.")
    field: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_-]{1,20}$", description="Its name in the signature header, as t in t=…,v1=…"
    )
    unit: Literal["s", "ms", "iso8601"] = Field("s", description="Unix seconds, milliseconds, or ISO 8601.")
    tolerance_s: int = Field(300, ge=1, le=_WEEK_S, description="How old a signature may be, in seconds.")
    allow_future: bool = Field(default=False, description="Accept a time ahead of our clock, however far.")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.header is None) == (self.field is None):
            raise ValueError("say either header or field")
        return self


class HmacScheme(SettingsPart):
    """How a sender signs with a shared secret."""

    algorithm: Literal["sha1", "sha256", "sha512"] = Field("sha256", description="The hash under the HMAC.")
    encoding: Literal["hex", "base64"] = Field("hex", description="How the signature's bytes are written.")
    header: Annotated[str, AfterValidator(_signature_header_name)] = Field(
        description="The header that holds the signature; {n} in it stands for 1, 2, … one per key."
    )
    prefix: str = Field("", max_length=20, description="What stands before each signature, such as sha256=")
    separator: Literal["", ",", ";", " "] = Field("", description="Between several parts of the header.")
    timestamp: TimestampRule | None = Field(None, description="Left out when the sender signs no time.")
    signed_content: Annotated[str, Field(max_length=500), AfterValidator(_placeholders)] = Field(
        "{body}", description="What is signed, of {body}, {timestamp}, {url}, {method}, {header:NAME} and text."
    )
    secret_encoding: Literal["text", "base64", "hex", "whsec"] = Field(
        "text", description="How the key is written: itself, encoded, or as whsec_ and base64."
    )

    @model_validator(mode="after")
    def _timestamp_is_signed(self) -> Self:
        signs_time = "{timestamp}" in self.signed_content
        if self.timestamp is None and signs_time:
            raise ValueError("signed_content has {timestamp}, so timestamp must say where it stands")
        if self.timestamp is not None and not signs_time:
            raise ValueError("signed_content lacks {timestamp}: a time that is not signed can be forged")
        if self.timestamp is not None and self.timestamp.field is not None and not self.separator:
            raise ValueError("timestamp.field needs a separator between the parts of the header")
        return self

    def key(self, secret: str) -> bytes:
        """The key's bytes; raises ValueError for a secret that is not written as secret_encoding says."""
        match self.secret_encoding:
            case "text":
                return secret.encode()
            case "hex":
                return bytes.fromhex(secret)
            case "base64":
                return base64.b64decode(secret, validate=True)
            case "whsec":
                return base64.b64decode(secret.removeprefix(_STANDARD_PREFIX), validate=True)

    def new_secret(self) -> str:
        """A fresh random secret, written as secret_encoding says."""
        key = random_secrets.token_bytes(_NEW_SECRET_BYTES)
        match self.secret_encoding:
            case "text":
                return base64.urlsafe_b64encode(key).rstrip(b"=").decode()
            case "hex":
                return key.hex()
            case "base64":
                return base64.b64encode(key).decode()
            case "whsec":
                return _STANDARD_PREFIX + base64.b64encode(key).decode()

    def content(self, request: InboundRequest, timestamp: str) -> bytes:
        """The bytes that are signed; raises MalformedSignatureError when a header among them is absent."""
        parts = self._parts
        if len(parts) == 1:
            return parts[0](request, timestamp)
        return b"".join(part(request, timestamp) for part in parts)

    @cached_property
    def _parts(self) -> tuple[_Fill, ...]:
        """signed_content as what to put one behind the other."""
        texts = _PLACEHOLDER.split(self.signed_content)
        return tuple(_text(text) if at % 2 == 0 else _fill(text) for at, text in enumerate(texts) if text)

    def encode(self, signature: bytes) -> str:
        """A signature's bytes as the sender writes them."""
        return signature.hex() if self.encoding == "hex" else base64.b64encode(signature).decode()

    def decode(self, text: str) -> bytes | None:
        """A written signature's bytes; None when it is not one."""
        size = _DIGEST_SIZES[self.algorithm]
        if self.encoding == "hex" and len(text) != 2 * size:
            return None  # fromhex would skip blanks
        try:
            decoded = bytes.fromhex(text) if self.encoding == "hex" else base64.b64decode(text, validate=True)
        except ValueError:
            return None
        return decoded if len(decoded) == size else None


_DIGEST_SIZES = {"sha1": 20, "sha256": 32, "sha512": 64}


def read_scheme(document: object, *, pointer: str = "") -> HmacScheme:
    """A tenant's own scheme from JSON; raises InvalidSettingsError that names each fault by its pointer."""
    return read_settings(HmacScheme, document, pointer=pointer)


def invalid_secret(what: str, pointer: str) -> InvalidSettingsError:
    """The error for a secret that cannot be used; it never repeats the secret."""
    return InvalidSettingsError(what, (Fault(pointer, what),))


def _text(text: str) -> _Fill:
    encoded = text.encode()
    return lambda _request, _timestamp: encoded


def _fill(name: str) -> _Fill:
    if not name.startswith(_HEADER_PLACEHOLDER):
        return _FILLS[name]
    wanted = name.removeprefix(_HEADER_PLACEHOLDER)

    def header(request: InboundRequest, _timestamp: str) -> bytes:
        values = request.headers.all(wanted)
        if len(values) != 1:
            raise MalformedSignatureError(f"The header {wanted}, which is signed, must come exactly once.")
        return values[0].encode("latin-1")

    return header
