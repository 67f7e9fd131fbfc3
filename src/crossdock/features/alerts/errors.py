"""Errors of alerts.

CrossdockError
├── ConflictError
│   └── AlertResolvedError     409  what it told of is over already
└── NotFoundError
    └── AlertNotFoundError     404
"""

from crossdock.kit.errors import ConflictError, NotFoundError


class AlertResolvedError(ConflictError):
    """The alert is resolved already; when the same happens again there will be a new one."""

    code = "alert_resolved"


class AlertNotFoundError(NotFoundError):
    """There is no alert with this id, or it was resolved longer ago than alerts are kept."""

    code = "alert_not_found"
