"""Database addresses, as libpq and people write them (`postgresql://user:password@host:port/name`)."""

from sqlalchemy import URL, make_url


def sqlalchemy_url(dsn: str) -> URL:
    """The same address for SQLAlchemy on asyncpg."""
    return make_url(dsn).set(drivername="postgresql+asyncpg")


def libpq_url(dsn: str) -> str:
    """The same address for asyncpg and PostgreSQL's own programs, password included."""
    return make_url(dsn).set(drivername="postgresql").render_as_string(hide_password=False)


def masked(dsn: str) -> str:
    """The same address with the password hidden, to show and to log."""
    return make_url(dsn).render_as_string(hide_password=True)
