"""Why a webhook was refused, as far as trying can tell: what commonly goes wrong is undone, and tried again.

The hints are for the endpoint's owner, never for the caller. They name causes, and hold no secret and no
signature: whoever reads them must not learn how to sign anything.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice

from crossdock.connectors.webhooks import variants
from crossdock.connectors.webhooks.errors import (
    AddressRefusedError,
    CertificateUnavailableError,
    FutureTimestampError,
    MissingSecretError,
    MissingSignatureError,
    StaleTimestampError,
    TrialCertificateError,
    UnknownTopicError,
    UnlistedSenderError,
    UntrustedProxyError,
    WebhookRefusedError,
    WrongCertificateError,
    WrongSignatureError,
)
from crossdock.connectors.webhooks.preset import Preset, SecretOrigin
from crossdock.connectors.webhooks.request import InboundRequest
from crossdock.connectors.webhooks.signature import ReadsBody, SignatureMethod, Verified
from crossdock.connectors.webhooks.telltales import looks_like
from crossdock.kit.errors import CrossdockError

# Of larger ones the beginning alone is kept; those below are tried as they came.
MAX_BODY_BYTES = 1_000_000
# Anybody may send what is refused, and writing a megabyte anew in every way takes many seconds.
_MOST_VARIED_BYTES = 64_000
# How much dearer it is to read a body than to hash it.
_READING = 16
_MOST_TRIES = 400
_MOST_BYTES = 16_000_000
_MOST_OTHERS = 60
_MOST_COMBINED = 3
_ANY_AGE_S = 100 * 365 * 24 * 3600
_LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
# Where trying would find out nothing, and the error's own message says the rest.
_SAID = {
    UnlistedSenderError.code: "If it is yours, add it to the endpoint's settings; if not, somebody imitates the "
    "sender, and nothing needs to be done.",
    UnknownTopicError.code: "Add the topic to topic_arns in the endpoint's settings if it is yours.",
    CertificateUnavailableError.code: "See that the hub may call the place of the certificate over HTTPS (firewall, "
    "outgoing proxy, DNS); the sender sends again.",
    WrongCertificateError.code: "Somebody imitates the sender, or something between the hub and the web answers in its "
    "place; nothing needs to be done about the first.",
    TrialCertificateError.code: "To try the set-up with it, start the hub with CROSSDOCK_TRUST_TEST_WEBHOOKS=true; "
    "unset that when you are done.",
}
_UNTOUCHED = "pass the body on byte for byte: a proxy, or a program that reads and writes it anew, changes it"


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherSecret:
    """A secret that does not count for the endpoint.

    `owner` names the endpoint that it counts for; None for one of the endpoint's own that ended at `ended_at`.
    """

    secret: str = field(repr=False)
    owner: str | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A refused webhook, and what is known about its endpoint; `reason` is the error's code.

    `urls` are others under which the hub may have been called.
    """

    preset: Preset
    request: InboundRequest
    reason: str
    secrets: Sequence[str] = field(default=(), repr=False)
    others: Sequence[OtherSecret] = field(default=(), repr=False)
    urls: Sequence[str] = ()
    source_address: str | None = None
    now: datetime


def diagnose(refused: Refused) -> list[str]:
    """What may be the matter, the most likely first, each with what to do about it."""
    match refused.reason:
        case AddressRefusedError.code | UntrustedProxyError.code:
            return _address_hints(refused)
        case MissingSecretError.code:
            return [f"No secret is set; set it with rotate-secret. {refused.preset.title}: {refused.preset.how_to}"]
        case _ if refused.reason in _SAID:
            return [_SAID[refused.reason]]
    trial = _Trial(refused)
    age = trial.age_hint()
    if age is not None:
        return [age]
    look = _look_hints(refused)
    if refused.reason == MissingSignatureError.code:
        return look or _unsigned_hints(refused)
    return [*look, *islice(trial.hints(), 1)] or _plain_hints(refused)


class _Trial:
    """Tries what may have been signed instead, for as long as the allowance lasts."""

    def __init__(self, refused: Refused) -> None:
        self._refused = refused
        self._tries_left = _MOST_TRIES
        self._bytes_left = _MOST_BYTES

    def age_hint(self) -> str | None:
        """That the signature is right, and how old it is; None when that is not the matter."""
        refused = self._refused
        if refused.reason not in (StaleTimestampError.code, FutureTimestampError.code):
            return None
        signed = self._verified(refused.preset.signature, refused.request, refused.secrets)
        if signed is None or signed.timestamp is None:
            return "The signature is right, and too far from now: a clock is off, or this is a replay."
        age_s = (refused.now - signed.timestamp).total_seconds()
        when = f"{age_s:.0f} s ago" if age_s >= 0 else f"{-age_s:.0f} s in the future"
        return (
            f"The signature is right, and was made {when}: the clock there or here is off by so much, "
            "it waited on its way, or this is a replay."
        )

    def hints(self) -> Iterator[str]:
        """What would have fitted, the likelier first."""
        yield from self._other_secrets(self._refused.request)
        yield from self._respelled(self._refused.request)
        yield from self._other_urls(self._refused.secrets, "")
        yield from self._other_bodies(self._refused.secrets, "")
        yield from self._other_ways()
        yield from self._combined()

    def _other_secrets(self, request: InboundRequest, also: str = "") -> Iterator[str]:
        for other in self._refused.others[:_MOST_OTHERS]:
            if self._fits(request, [other.secret]):
                yield _whose(other) + also

    def _respelled(self, request: InboundRequest) -> Iterator[str]:
        for secret in self._refused.secrets:
            for how, candidate in variants.spellings(secret):
                if self._fits(request, [candidate]):
                    yield f"The signature fits the secret {how}: set it again with rotate-secret, exactly as it is."

    def _other_urls(self, secrets: Sequence[str], also: str) -> Iterator[str]:
        refused = self._refused
        if not signs(refused.preset, refused.request, _with_other_url):
            return
        for url in variants.urls(refused.request, refused.urls):
            if self._fits(replace(refused.request, url=url), secrets):
                yield _url_hint(refused.request.url, url) + also

    def _other_bodies(self, secrets: Sequence[str], also: str) -> Iterator[str]:
        refused = self._refused
        if len(refused.request.body) > _MOST_VARIED_BYTES or not signs(
            refused.preset, refused.request, _with_other_body
        ):
            return
        for how, body in variants.bodies(refused.request.body):
            if self._fits(replace(refused.request, body=body), secrets):
                yield f"The signature fits the body {how}; {_UNTOUCHED}." + also

    def _other_ways(self) -> Iterator[str]:
        """Signatures that are right and written in another way, or made in another way."""
        refused = self._refused
        for how, headers in variants.headers(refused.request):
            if self._fits(replace(refused.request, headers=headers), refused.secrets):
                yield f"The webhook would be right with {how}; see what on its way changes headers."
        for part, value, method in variants.methods(refused.preset.signature, refused.request):
            if self._fits(refused.request, refused.secrets, method):
                yield _way_hint(refused.preset, part, value)

    def _combined(self) -> Iterator[str]:
        """Another secret, and a body or URL that changed as well."""
        for other in self._refused.others[:_MOST_COMBINED]:
            also = f" And: {_whose(other)}"
            yield from self._other_urls([other.secret], also)
            yield from self._other_bodies([other.secret], also)

    def _fits(self, request: InboundRequest, secrets: Sequence[str], method: SignatureMethod | None = None) -> bool:
        return self._verified(method or self._refused.preset.signature, request, secrets) is not None

    def _verified(self, method: SignatureMethod, request: InboundRequest, secrets: Sequence[str]) -> Verified | None:
        cost = (len(request.body) + 1) * (_READING if isinstance(method, ReadsBody) else max(1, len(secrets)))
        if self._tries_left <= 0 or self._bytes_left < cost:
            return None
        self._tries_left -= 1
        self._bytes_left -= cost
        try:
            return method.verify(request, secrets=secrets, now=self._refused.now, tolerance_s=_ANY_AGE_S)
        except (StaleTimestampError, FutureTimestampError):
            return Verified()  # which means that the signature is right
        except (CrossdockError, ValueError):
            return None


def signs(preset: Preset, request: InboundRequest, change: Callable[[InboundRequest], InboundRequest]) -> bool:
    """Whether the preset's signature depends on what `change` changes.

    Where signing cannot be tried, since the key is the sender's alone, it is the body: all of those sign that.
    """
    empty = replace(request, body=b"a=1")
    try:
        secrets = [preset.signature.new_secret()]
        one, again, other = (
            preset.signature.sign(candidate, secrets=secrets, now=_LONG_AGO)
            for candidate in (empty, empty, change(empty))
        )
    except (CrossdockError, ValueError):
        return change(empty).body != empty.body
    known, differs = set(one.headers.items()), set(other.headers.items())
    return known == set(again.headers.items()) and known != differs


def _with_other_url(request: InboundRequest) -> InboundRequest:
    return replace(request, url=f"{_shown(request.url)}/other")


def _with_other_body(request: InboundRequest) -> InboundRequest:
    return replace(request, body=b"a=2")


def _address_hints(refused: Refused) -> list[str]:
    address = refused.source_address or "an unknown address"
    if refused.reason == UntrustedProxyError.code:
        return [
            (
                f"It came from {address}: if that is your proxy, name it in CROSSDOCK_TRUSTED_PROXIES, and see that no "
                "other way leads to the hub."
            )
        ]
    hints = [f"It came from {address}, which is not in allowed_sources; add it if it is the sender's."]
    forwarded = refused.request.headers.get("x-forwarded-for")
    if forwarded is not None:
        hints.insert(
            0,
            f"It came through a proxy at {address} that the hub does not trust, so the sender's own address was not "
            "looked at: name the proxy in CROSSDOCK_TRUSTED_PROXIES.",
        )
    return hints


def _look_hints(refused: Refused) -> list[str]:
    other = looks_like(refused.request, instead_of=refused.preset)
    if other is None:
        return []
    return [
        (
            f"This looks like a webhook from {other.title}, but the endpoint's preset is {refused.preset.name}: "
            f"open an endpoint with the preset {other.name}, or call this one from {refused.preset.title} alone."
        )
    ]


def _unsigned_hints(refused: Refused) -> list[str]:
    title = refused.preset.title
    return [
        f"{title} signs once a secret is set on its side. {title}: {refused.preset.how_to}",
        "If it does sign, something on the way removes headers: let the signature's pass.",
        "If nobody but you knows of this webhook, somebody else found the URL; nothing needs to be done.",
    ]


def _plain_hints(refused: Refused) -> list[str]:
    """What to look at when nothing that was tried has fitted."""
    if refused.reason != WrongSignatureError.code:
        known = refused.reason in {error.code for error in WebhookRefusedError.__subclasses__()}
        return [f"See that {refused.preset.title} is what sends it. {refused.preset.how_to}"] if known else []
    title = refused.preset.title
    if not refused.preset.signature.needs_secret:
        return [f"Somebody imitates {title}, or it was changed on its way: if so, {_UNTOUCHED}."]
    where = "shows" if refused.preset.secret_from is SecretOrigin.SENDER else "was given"
    hints = [
        (
            f"Compare the secret here with that which {title} {where} for this very URL; test and live have different "
            "ones. Set it with rotate-secret."
            f"{_where_it_is(refused.preset)}"
        )
    ]
    if signs(refused.preset, refused.request, _with_other_url):
        hints.append(
            f"{title} signs the URL, which the hub takes for {_shown(refused.request.url)}: if it is called under "
            "another, as behind a proxy, set the endpoint's public_url to that."
        )
    if signs(refused.preset, refused.request, _with_other_body):
        hints.append(f"If something stands between {title} and the hub, it has to {_UNTOUCHED}.")
    return hints


def _where_it_is(preset: Preset) -> str:
    return f" {preset.title}: {preset.how_to}" if preset.secret_from is SecretOrigin.SENDER else ""


def _whose(other: OtherSecret) -> str:
    if other.owner is not None:
        return (
            f"It is signed with the secret of {other.owner}: the URLs at the sender, or the secrets here, are swapped "
            "(test and live, perhaps)."
        )
    ended = "before" if other.ended_at is None else f"at {other.ended_at:%Y-%m-%d %H:%M} UTC"
    return (
        f"It is signed with a secret that was rotated out {ended}: enter the present one at the sender, "
        "or set the old one again with rotate-secret."
    )


def _url_hint(seen: str, signed: str) -> str:
    if _shown(seen) == _shown(signed):
        return (
            "The sender signed the URL without its query: something on the way, or the URL entered at the sender, adds "
            "one; leave it out."
        )
    return (
        f"The sender called {_shown(signed)}, and the hub takes it for {_shown(seen)}: "
        f"set the endpoint's public_url to {_shown(signed)}."
    )


def _way_hint(preset: Preset, part: str, value: str) -> str:
    what = {
        "encoding": f"the signature is written in {value}",
        "prefix": f"the signature stands behind {value!r}" if value else "the signature stands there without a prefix",
        "algorithm": f"the signature is made with {value}",
        "secret_encoding": f"the secret is {'taken as it stands' if value == 'text' else f'decoded from {value}'}",
        "signed_content": f"what is signed is {value}",
        "signature": f"the signature is {value}",
    }[part]
    if preset.configured is not None:
        setting = "signature's settings" if part == "signature" else f"setting signature.{part}"
        return f"It fits if {what}: change the {setting}."
    if part == "secret_encoding":
        return f"It fits if {what}: enter the secret exactly as {preset.title} shows it."
    return f"It fits if {what}, which {preset.title} does not do: something in between signs anew, or try `generic`."


def _shown(url: str) -> str:
    """A URL without its query, which may hold what nobody else should see."""
    return url.partition("?")[0]
