"""Filling `{{ config.region }}` into texts and URLs of a provider's settings: names and nothing more.

The names are what the caller offers, such as `config.x` (what a tenant filled in), `credentials.x` or
`values.x` (what the provider told). A value cannot turn a URL into another one: in the host it has
letters, digits, dots and hyphens alone, elsewhere it is escaped, and the host that comes out must be
one of the provider's.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import ClassVar
from urllib.parse import quote, urlsplit

from crossdock.kit.errors import CrossdockError

_PLACE = re.compile(r"\{\{\s*([a-z_]+\.[A-Za-z0-9_\-]+)\s*\}\}")
_AUTHORITY = re.compile(r"(?P<scheme>https?://)(?P<authority>[^/?#]*)(?P<rest>.*)", re.DOTALL)
_LEADING_PLACE = re.compile(rf"(?P<origin>{_PLACE.pattern})(?P<rest>.*)", re.DOTALL)
_HOST_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.\-]{0,251}[A-Za-z0-9])?")
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-]{1,253}(?::[0-9]{1,5})?/?")
# What every reader of URLs takes for the same host: no user, no backslash, nothing that one of them would drop.
_PLAIN_URL = re.compile(
    r"https?://(?:[A-Za-z0-9._\-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:[/?][\x21\x22\x24-\x5b\x5d-\x7e]*)?"
)
_HOST_PATTERN = re.compile(r"(?:\*\.)?[a-z0-9](?:[a-z0-9.\-]*[a-z0-9])?")


class InterpolationError(CrossdockError):
    """A provider's settings cannot be filled with what is known of the connection."""

    code = "settings_unfilled"
    status: ClassVar[int] = 422


def names_in(template: str) -> frozenset[str]:
    """The names that a text asks for, such as `config.region`."""
    return frozenset(match[1] for match in _PLACE.finditer(template))


def has_templated_host(url: str) -> bool:
    """Whether a URL's host depends on what is filled in."""
    match = _AUTHORITY.fullmatch(url)
    return bool(names_in(match["authority"])) if match else True


def fill(template: str, variables: Mapping[str, str]) -> str:
    """The text with its values in place. Raises InterpolationError, which names what is missing."""
    return _fill(template, variables, lambda _name, value: value)


def fill_url(template: str, variables: Mapping[str, str], *, hosts: Sequence[str] = ()) -> str:
    """The URL with its values in place: HTTPS (HTTP to this machine only), at one of `hosts` where given.

    A host is a name or `*.` and a domain, whose subdomains it means. A URL whose host is filled in, or
    that begins with an address that is (`{{ values.instance_url }}/token`), needs `hosts`.
    Raises InterpolationError.
    """
    leading = _LEADING_PLACE.match(template)
    if leading is not None:
        if leading["rest"][:1] not in {"", "/", "?"}:
            raise InterpolationError(f"After {leading['origin']} comes a path, beginning with a slash.")
        template = _origin(leading[2], variables) + leading["rest"]
    parts = _AUTHORITY.fullmatch(template)
    if parts is None:
        raise InterpolationError("A provider's URL must begin with https://.")
    authority = _fill(parts["authority"], variables, _host_part)
    filled = f"{parts['scheme']}{authority}{_fill(parts['rest'], variables, _escaped)}"
    check_host(filled, hosts)
    if not hosts and (leading is not None or names_in(parts["authority"])):
        raise InterpolationError("A URL whose host is filled in needs a list of the provider's hosts.")
    return filled


def check_host(url: str, hosts: Sequence[str]) -> None:
    """Raise InterpolationError unless requests may go to this URL: HTTPS, and one of the hosts where there are any."""
    if not _PLAIN_URL.fullmatch(url):
        raise InterpolationError("A provider's URL begins with https://, names a host and no user, and has no spaces.")
    try:
        host = (urlsplit(url).hostname or "").lower().removesuffix(".")
    except ValueError:
        raise InterpolationError("A provider's URL must name a host.") from None
    if url.startswith("http://") and not _is_this_machine(host):
        raise InterpolationError(f"The URL at {host} must begin with https://.")
    if hosts and not any(_fits(host, pattern) for pattern in hosts):
        raise InterpolationError(f"{host} is not one of the provider's hosts ({', '.join(hosts)}).")


def is_host_pattern(text: str) -> bool:
    """Whether this is a host name, or `*.` and the domain whose subdomains are meant."""
    return _HOST_PATTERN.fullmatch(text) is not None


def _fill(template: str, variables: Mapping[str, str], shape: Callable[[str, str], str]) -> str:
    def value_of(match: re.Match[str]) -> str:
        return shape(match[1], _value(match[1], variables))

    return _PLACE.sub(value_of, template)


def _value(name: str, variables: Mapping[str, str]) -> str:
    value = variables.get(name)
    if value is None or not value:
        raise InterpolationError(f"{name} is not known of this connection, and the provider's settings need it.")
    return value


def _host_part(name: str, value: str) -> str:
    if not _HOST_PART.fullmatch(value):
        raise InterpolationError(f"{name} is part of a host name: letters, digits, dots and hyphens only.")
    return value


def _origin(name: str, variables: Mapping[str, str]) -> str:
    value = _value(name, variables)
    if not _ORIGIN.fullmatch(value):
        raise InterpolationError(f"{name} must be an address such as https://eu.example.com, without a path.")
    return value.removesuffix("/")


def _escaped(_name: str, value: str) -> str:
    # Dots alone would climb the path.
    return quote(value, safe="") if value.strip(".") else "%2E" * len(value)


def _fits(host: str, pattern: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
