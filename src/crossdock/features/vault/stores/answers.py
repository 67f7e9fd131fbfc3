"""Reading what outside stores answer over HTTP."""

import json
from http import HTTPStatus
from typing import Any

from crossdock.features.vault.errors import StoreUnreachableError
from crossdock.gateway.transport import OutboundResponse

_PASSING = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.PRECONDITION_FAILED, HTTPStatus.TOO_MANY_REQUESTS})
# Of HashiCorp Vault: standby nodes that cannot answer.
_STANDBY = frozenset({472, 473})


def is_passing(status: int) -> bool:
    """Whether asking again later may bring something else."""
    return status in _PASSING or status in _STANDBY or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def json_object(answer: OutboundResponse, whose: str) -> dict[str, Any]:
    """The answer's JSON object. Raises StoreUnreachableError for anything else, which is not quoted."""
    try:
        found = None if answer.truncated else json.loads(answer.body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise StoreUnreachableError(f"{whose} answered with something that is not a JSON object.")
    return found
