"""Nobody gives away, or takes over, more than he has."""

from collections.abc import Iterable

from crossdock.features.identity.errors import CannotGrantError


def check_may_grant(granted: frozenset[str], wanted: Iterable[str]) -> None:
    """Raise CannotGrantError, which names what is missing, unless `granted` covers `wanted`."""
    missing = frozenset(wanted) - granted
    if missing:
        raise CannotGrantError(missing)
