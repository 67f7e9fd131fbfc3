"""What a call is signed with: an access token, and who gives out fresh ones."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

_MAX_LEAD_S = 300.0
_LEAD_SHARE = 1 / 3
# A token refused when younger than this was not refused for its age: a new one would fare no better.
YOUNG_S = 30.0


def renewal_lead_s(lifetime_s: float) -> float:
    """How long before its end a token is renewed: five minutes, or a third of a life that is shorter than 15."""
    return min(_MAX_LEAD_S, lifetime_s * _LEAD_SHARE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A usable access token.

    `values` is what the authorization server told of the connection, such as an instance URL or an
    account's id, under the names that the settings give it. `scheme` stands before the token in the
    Authorization header.
    """

    value: str = field(repr=False)
    values: Mapping[str, str] = field(default_factory=dict)
    scheme: str = "Bearer"

    @property
    def authorization(self) -> str:
        """The Authorization header's value."""
        return f"{self.scheme} {self.value}"


class TokenProvider(Protocol):
    """Gives out the access token of one connection."""

    async def token(self, *, force_newer_than: str | None = None) -> Token:
        """A token that is still good; ask before every attempt, since a wait may outlast it.

        `force_newer_than` is a token that the provider refused with 401: another one comes, or the same
        when it is so young that a newer one would fare no better.
        Raises GrantRevokedError when a person has to connect anew, TokenFetchError for all else.
        """
        ...
