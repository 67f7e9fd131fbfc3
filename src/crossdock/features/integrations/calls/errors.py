"""Errors of the call log.

CrossdockError
└── NotFoundError
    └── CallNotFoundError   404
"""

from crossdock.kit.errors import NotFoundError


class CallNotFoundError(NotFoundError):
    """There is no call with this id, or not any more."""

    code = "call_not_found"
