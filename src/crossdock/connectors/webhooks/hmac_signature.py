"""Checking and making the signatures that an HmacScheme describes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hmac import digest

from crossdock.connectors.webhooks.errors import (
    FutureTimestampError,
    MalformedSignatureError,
    MalformedTimestampError,
    MissingSecretError,
    MissingSignatureError,
    MissingTimestampError,
    StaleTimestampError,
)
from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.connectors.webhooks.scheme import NUMBER, HmacScheme, TimestampRule, invalid_secret
from crossdock.connectors.webhooks.signature import MAX_SIGNATURES, Verified, first_match, require_secrets

# The year 5138 in seconds; more digits could not be a time.
_MAX_DIGITS = {"s": 11, "ms": 14}
# Whoever saw one signed webhook can try secrets as fast as he hashes. Senders hand out no shorter ones (Dropbox's
# have 15 characters), and the least that one lets its customers choose is this (Twitch).
_SHORTEST_SECRET_BYTES = 10


@dataclass(frozen=True, slots=True)
class HmacSignature:
    """A shared secret, used as the scheme says."""

    scheme: HmacScheme
    needs_secret: bool = True
    shortest_secret: int = _SHORTEST_SECRET_BYTES

    def check_secret(self, secret: str, *, pointer: str = "") -> None:
        """Raise InvalidSettingsError for text that is not written as secret_encoding says, or could be guessed."""
        length = len(self._key(secret, pointer))
        if length < self.shortest_secret:
            raise invalid_secret(
                f"The secret has {length} bytes, which could be guessed; at least {self.shortest_secret} are needed.",
                pointer,
            )

    def _key(self, secret: str, pointer: str = "") -> bytes:
        try:
            key = self.scheme.key(secret)
        except ValueError:
            raise invalid_secret(f"The secret is not written as {self.scheme.secret_encoding}.", pointer) from None
        if not key:
            raise invalid_secret("The secret is empty.", pointer)
        return key

    def new_secret(self) -> str:
        """A fresh random secret of 32 bytes, written as the scheme's secret_encoding says."""
        return self.scheme.new_secret()

    def verify(
        self, request: InboundRequest, *, secrets: Sequence[str], now: datetime, tolerance_s: int | None = None
    ) -> Verified:
        """Accept a request that any of the secrets signed, recently enough.

        `tolerance_s` replaces the scheme's own. Raises the WebhookRefusedError of the reason; one about
        the timestamp's age means that the signature is right.
        """
        require_secrets(secrets)
        parts = self._header_parts(request)
        timestamp = self._timestamp_text(request, parts)
        given = self._given(parts)
        try:
            expected = self._expected(request, timestamp, secrets)
        except ValueError:
            # The settings were changed since it was set.
            raise MissingSecretError(
                f"A secret is not written as {self.scheme.secret_encoding}; set it anew."
            ) from None
        found = first_match(expected, given)
        rule = self.scheme.timestamp
        signed_at = None if rule is None else check_age(timestamp, rule, now, tolerance_s)
        return Verified(found, signed_at)

    def sign(self, request: InboundRequest, *, secrets: Sequence[str], now: datetime) -> InboundRequest:
        """The request with the scheme's headers; one signature per secret where the scheme has room."""
        for secret in secrets:
            self._key(secret)  # a short one that is in use has to be tried out too
        rule = self.scheme.timestamp
        timestamp = "" if rule is None else write_time(now, rule)
        added = {} if rule is None or rule.header is None else {rule.header: timestamp}
        unsigned = InboundRequest(
            method=request.method,
            url=request.url,
            headers=request.headers.replaced(added.items()),
            body=request.body,
        )
        written = [self.scheme.prefix + self.scheme.encode(one) for one in self._expected(unsigned, timestamp, secrets)]
        return InboundRequest(
            method=request.method,
            url=request.url,
            headers=unsigned.headers.replaced(self._signature_headers(written, timestamp)),
            body=request.body,
        )

    def _header_parts(self, request: InboundRequest) -> list[str]:
        """All that the signature header, or each of the numbered ones, holds."""
        scheme = self.scheme
        numbered = NUMBER in scheme.header
        values = _numbered(request, scheme.header) if numbered else request.headers.all(scheme.header)
        if not any(values):
            raise MissingSignatureError(f"The webhook has no header {scheme.header}.")
        if scheme.separator:
            values = [part.strip() for value in values for part in value.split(scheme.separator)]
        if len(values) > MAX_SIGNATURES:
            raise MalformedSignatureError(f"The header {scheme.header} has more than {MAX_SIGNATURES} parts.")
        return values

    def _given(self, parts: list[str]) -> list[bytes]:
        """The signatures among the parts; those of other versions are passed over."""
        scheme, prefix = self.scheme, self.scheme.prefix
        written = [part.removeprefix(prefix) for part in parts if part.startswith(prefix)]
        given = [signature for text in written if (signature := scheme.decode(text)) is not None]
        if not given:
            kind = f"an HMAC-{scheme.algorithm.upper()} in {scheme.encoding}"
            wanted = f"{prefix!r} and then {kind}" if prefix else kind
            raise MalformedSignatureError(f"The header {scheme.header} should hold {wanted}.")
        return given

    def _timestamp_text(self, request: InboundRequest, parts: list[str]) -> str:
        rule = self.scheme.timestamp
        if rule is None:
            return ""
        if rule.header is not None:
            return header_timestamp(request, rule)
        name = f"{rule.field}="
        values = [part.removeprefix(name) for part in parts if part.startswith(name)]
        return _one_timestamp(values, rule, place=f"field {rule.field} in the header {self.scheme.header}")

    def _expected(self, request: InboundRequest, timestamp: str, secrets: Sequence[str]) -> list[bytes]:
        content = self.scheme.content(request, timestamp)
        return [digest(self.scheme.key(secret), content, self.scheme.algorithm) for secret in secrets]

    def _signature_headers(self, written: list[str], timestamp: str) -> list[tuple[str, str]]:
        scheme = self.scheme
        if NUMBER in scheme.header:
            return [(scheme.header.replace(NUMBER, str(n), 1), one) for n, one in enumerate(written, start=1)]
        field = scheme.timestamp.field if scheme.timestamp else None
        parts = [f"{field}={timestamp}", *written] if field else written
        if scheme.separator:
            return [(scheme.header, scheme.separator.join(parts))]
        return [(scheme.header, part) for part in parts]


def _numbered(request: InboundRequest, pattern: str) -> list[str]:
    before, _, after = pattern.lower().partition(NUMBER)
    return [
        value
        for name, value in request.headers.items()
        if name.startswith(before) and name.endswith(after) and name[len(before) : len(name) - len(after)].isdigit()
    ]


def header_timestamp(request: InboundRequest, rule: TimestampRule) -> str:
    """What stands in the rule's header, which must come once and hold a time."""
    header = rule.header or ""
    return _one_timestamp(request.headers.all(header), rule, place=f"header {header}")


def _one_timestamp(values: Sequence[str], rule: TimestampRule, *, place: str) -> str:
    if not any(values):
        raise MissingTimestampError(f"The webhook has no {place}.")
    if len(values) > 1:
        raise MalformedTimestampError(f"The webhook has more than one {place}.")
    read_time(values[0], rule)
    return values[0]


def read_time(text: str, rule: TimestampRule) -> datetime:
    """The moment that a timestamp names; raises MalformedTimestampError."""
    try:
        if rule.unit == "iso8601":
            moment = datetime.fromisoformat(text)
            # Without a zone it could be any of two dozen hours.
            if moment.tzinfo is not None:
                return moment.astimezone(UTC)
        elif text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS[rule.unit]:
            return datetime.fromtimestamp(int(text) / (1000 if rule.unit == "ms" else 1), tz=UTC)
    except (ValueError, OverflowError):
        pass
    wanted = {"s": "Unix seconds", "ms": "Unix milliseconds", "iso8601": "an ISO 8601 time with its zone"}
    raise MalformedTimestampError(f"The webhook's timestamp {text[:40]!r} is not {wanted[rule.unit]}.")


def write_time(moment: datetime, rule: TimestampRule) -> str:
    """A moment as the sender writes it."""
    match rule.unit:
        case "s":
            return str(int(moment.timestamp()))
        case "ms":
            return str(int(moment.timestamp() * 1000))
        case "iso8601":
            return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def check_age(text: str, rule: TimestampRule, now: datetime, tolerance_s: int | None) -> datetime:
    """The moment of signing; raises StaleTimestampError or FutureTimestampError beyond the tolerance."""
    signed_at = read_time(text, rule)
    allowed_s = rule.tolerance_s if tolerance_s is None else tolerance_s
    age_s = (now - signed_at).total_seconds()
    if age_s > allowed_s:
        raise StaleTimestampError(f"The webhook was signed {age_s:.0f} s ago; {allowed_s} s are allowed.")
    if age_s < -allowed_s and not rule.allow_future:
        raise FutureTimestampError(f"The webhook was signed {-age_s:.0f} s in the future; {allowed_s} s are allowed.")
    return signed_at
