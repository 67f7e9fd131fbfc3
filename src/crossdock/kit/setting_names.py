"""Names of environment variables that look like settings and are none: a security setting misspelt must not pass."""

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches

from crossdock.kit.errors import InvalidInputError

PREFIX = "CROSSDOCK_"
# Below this, what is nearest has nothing to do with what was meant.
_LEAST_LIKENESS = 0.75
# What Kubernetes sets in every pod for a Service whose name begins as our variables do.
_SERVICE_LINK = re.compile(r"\w+_SERVICE_(HOST|PORT(_\w+)?)|\w+_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?")
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")


class UnknownSettingError(InvalidInputError):
    """There is a variable that begins as our settings do, and is none."""

    code = "unknown_setting"


def check_names(variables: Mapping[str, str | None], *, known: Collection[str], place: str) -> None:
    """Raise UnknownSettingError if a variable with our prefix is not known, with what may have been meant; any case."""
    unknown = sorted(
        name
        for name, value in ((name.upper(), value or "") for name, value in variables.items())
        if name.startswith(PREFIX) and name not in known and not _is_service_link(name, value)
    )
    if unknown:
        told = " ".join(_told(name, place, known) for name in unknown)
        raise UnknownSettingError(f"{told} Correct or remove it; nothing reads it.")


def _told(name: str, place: str, known: Collection[str]) -> str:
    shown = f"{name[:80]} ({place}) is no setting"
    near = get_close_matches(name.removeprefix(PREFIX), [one.removeprefix(PREFIX) for one in known], 1, _LEAST_LIKENESS)
    return f"{shown}; did you mean {PREFIX}{near[0]}?" if near else f"{shown}."


def _is_service_link(name: str, value: str) -> bool:
    if name.endswith("_PORT") and _SERVICE_ADDRESS.match(value):
        return True
    return _SERVICE_LINK.fullmatch(name) is not None
