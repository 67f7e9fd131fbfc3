"""Errors of publishing and of the event catalogue.

CrossdockError
├── InvalidInputError
│   ├── InvalidEventError            422  the event, or its data against the type's schema
│   └── UnknownEventTypeError        422
├── ConflictError
│   └── EventTypeExistsError         409
├── NotFoundError
│   ├── EventNotFoundError           404
│   └── EventTypeNotFoundError       404
└── UnavailableError
    └── PartitionMissingError        503
"""

from crossdock.kit.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError


class InvalidEventError(InvalidInputError):
    """The event is not valid."""

    code = "invalid_event"


class UnknownEventTypeError(InvalidInputError):
    """The event's type is not in the catalogue; add it there, or publish under a type that is."""

    code = "unknown_event_type"


class EventTypeExistsError(ConflictError):
    """That version of the event type exists already; add a new version instead."""

    code = "event_type_exists"


class EventNotFoundError(NotFoundError):
    """There is no event with this id, or it is older than the retention."""

    code = "event_not_found"


class EventTypeNotFoundError(NotFoundError):
    """There is no event type of this name and version."""

    code = "event_type_not_found"


class PartitionMissingError(UnavailableError):
    """The database has no room for this day yet; nothing was stored. A running worker makes it."""

    code = "partition_missing"
