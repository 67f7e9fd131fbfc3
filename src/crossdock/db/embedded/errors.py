"""What can go wrong with the embedded server, named by the stage.

EmbeddedError
├── BinariesError             the PostgreSQL programs are missing or cannot be run
├── DataFolderError           a folder cannot be used: rights, a copy of another, gone
├── EmbeddedInitError         making the cluster failed
├── EmbeddedVersionError      the cluster was made by another major version
├── EmbeddedStartError        the server did not come up
├── EmbeddedNotRunningError   its address was asked for, and nothing runs
└── EmbeddedStopError         it did not stop, or is still in use
"""

from crossdock.kit.errors import CrossdockError


class EmbeddedError(CrossdockError):
    """The embedded PostgreSQL failed."""

    code = "embedded_database_failed"
    status = 503


class BinariesError(EmbeddedError):
    """The PostgreSQL programs are missing; reinstall crossdock, or set CROSSDOCK_DATABASE_URL."""

    code = "embedded_database_programs_missing"


class DataFolderError(EmbeddedError):
    """The data folder cannot be used."""

    code = "embedded_database_folder_unusable"


class EmbeddedInitError(EmbeddedError):
    """The embedded database could not be made."""

    code = "embedded_database_init_failed"


class EmbeddedVersionError(EmbeddedError):
    """The embedded database was made by another major version of PostgreSQL."""

    code = "embedded_database_version_differs"


class EmbeddedStartError(EmbeddedError):
    """The embedded database did not start."""

    code = "embedded_database_start_failed"


class EmbeddedNotRunningError(EmbeddedError):
    """The embedded database does not run."""

    code = "embedded_database_not_running"


class EmbeddedStopError(EmbeddedError):
    """The embedded database did not stop."""

    code = "embedded_database_stop_failed"
