"""Doing something in memory once a transaction has committed, and only then."""

from collections.abc import Callable

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession


def after_commit(session: AsyncSession, call: Callable[[], None]) -> None:
    """Call `call` right after the session's transaction commits; never if it does not."""

    def committed(_session: object) -> None:
        call()

    event.listen(session.sync_session, "after_commit", committed, once=True)
