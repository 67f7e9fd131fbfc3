"""Database addresses, as libpq and people write them (`postgresql://user:password@host:port/name`)."""

from sqlalchemy import URL
from sqlalchemy import make_url as parsed
from sqlalchemy.exc import ArgumentError

from crossdock.kit.errors import InvalidInputError


def make_url(dsn: str) -> URL:
    """The address in its parts. Raises InvalidInputError, which does not repeat it: it may hold a password."""
    try:
        return parsed(dsn)
    except (ArgumentError, ValueError) as error:
        raise InvalidInputError(
            "The database's address cannot be read; one looks like postgresql://user:password@host:5432/name."
        ) from error


def sqlalchemy_url(dsn: str) -> URL:
    """The same address for SQLAlchemy on asyncpg."""
    return make_url(dsn).set(drivername="postgresql+asyncpg")


def libpq_url(dsn: str) -> str:
    """The same address for asyncpg and PostgreSQL's own programs, password included."""
    return make_url(dsn).set(drivername="postgresql").render_as_string(hide_password=False)


def masked(dsn: str) -> str:
    """The same address with the password hidden, to show and to log."""
    return make_url(dsn).render_as_string(hide_password=True)
