"""What can keep the demo from running.

CrossdockError
└── DemoError
    └── HubError    the hub answered something else than expected
"""

from crossdock.kit.errors import CrossdockError


class DemoError(CrossdockError):
    """The demo could not run."""

    code = "demo_failed"


class HubError(DemoError):
    """The hub did not do what the demo asked for."""

    code = "demo_hub_refused"

    def __init__(self, message: str, *, status_code: int | None = None) -> None:
        super().__init__(message)
        self.status_code = status_code
