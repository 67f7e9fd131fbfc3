"""Errors of manifests.

CrossdockError
├── InvalidInputError
│   └── InvalidManifestError     422  names file and line of each fault
└── NotFoundError
    └── UnknownProviderError     404
"""

from crossdock.kit.errors import Fault, InvalidInputError, NotFoundError


class InvalidManifestError(InvalidInputError):
    """The manifest is not valid."""

    code = "invalid_manifest"

    def __init__(self, source: str, faults: tuple[tuple[int, Fault], ...]) -> None:
        places = (f"{source}:{line}: {_placed(fault)}" for line, fault in faults)
        super().__init__("\n".join(places), tuple(fault for _, fault in faults))
        self.source = source
        self.lines = tuple(line for line, _ in faults)


class UnknownProviderError(NotFoundError):
    """There is no provider with this code."""

    code = "provider_not_found"


def _placed(fault: Fault) -> str:
    return f"{fault.pointer}: {fault.message}" if fault.pointer else fault.message
