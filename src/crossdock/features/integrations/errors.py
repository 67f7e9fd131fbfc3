"""Errors of integrations.

CrossdockError
├── InvalidInputError
│   └── InvalidIntegrationError         422  `faults` names configuration, credentials or options
├── ConflictError
│   ├── DuplicateIntegrationError       409  there is one for this provider, environment and owner
│   ├── CategoryTakenError              409  another one of an exclusive category is active
│   ├── ProviderNotAvailableError       409  the provider cannot be connected, or not in this environment
│   ├── ConnectionTestFailedError       409  the provider did not answer as it should
│   ├── IntegrationChangedError         409  it was changed while its connection was tested
│   ├── IntegrationNotActiveError       409  paused, pending, in error or disconnected: it makes no calls
│   └── WrongStateError                 409  what is asked for does not follow from where it stands
└── NotFoundError
    └── IntegrationNotFoundError        404
"""

from crossdock.kit.errors import ConflictError, InvalidInputError, NotFoundError


class InvalidIntegrationError(InvalidInputError):
    """The integration is not valid."""

    code = "invalid_integration"


class DuplicateIntegrationError(ConflictError):
    """The tenant has an integration with this provider in this environment and for this owner."""

    code = "duplicate_integration"


class CategoryTakenError(ConflictError):
    """Another integration of this category is active in this environment."""

    code = "category_taken"


class ProviderNotAvailableError(ConflictError):
    """The provider cannot be connected."""

    code = "provider_not_available"


class ConnectionTestFailedError(ConflictError):
    """The connection does not work."""

    code = "connection_test_failed"


class IntegrationChangedError(ConflictError):
    """The integration was changed meanwhile; read it and try again."""

    code = "integration_changed"


class IntegrationNotActiveError(ConflictError):
    """The integration is not active, so it makes no calls."""

    code = "integration_not_active"


class WrongStateError(ConflictError):
    """What is asked for cannot be done with an integration in this state."""

    code = "wrong_state"


class IntegrationNotFoundError(NotFoundError):
    """There is no integration with this id."""

    code = "integration_not_found"
