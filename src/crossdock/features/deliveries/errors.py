"""Errors of subscriptions and deliveries.

CrossdockError
├── NotRenderableError                    an event that cannot be made into a request; final
├── InvalidInputError
│   └── InvalidSubscriptionError     422
├── ConflictError
│   ├── TooManySubscriptionsError    409
│   └── NotReplayableError           409
└── NotFoundError
    ├── SubscriptionNotFoundError    404
    └── DeliveryNotFoundError        404
"""

from crossdock.kit.errors import ConflictError, CrossdockError, InvalidInputError, NotFoundError


class NotRenderableError(CrossdockError):
    """The event cannot be made into a request."""

    code = "not_renderable"


class InvalidSubscriptionError(InvalidInputError):
    """The subscription is not valid."""

    code = "invalid_subscription"


class TooManySubscriptionsError(ConflictError):
    """The tenant has as many subscriptions as it may; delete one, or raise CROSSDOCK_MAX_SUBSCRIPTIONS."""

    code = "too_many_subscriptions"


class NotReplayableError(ConflictError):
    """The delivery is still on its way, or its event is older than the retention; it cannot be replayed."""

    code = "not_replayable"


class SubscriptionNotFoundError(NotFoundError):
    """There is no subscription with this id."""

    code = "subscription_not_found"


class DeliveryNotFoundError(NotFoundError):
    """There is no delivery with this id, or it is older than the retention."""

    code = "delivery_not_found"
