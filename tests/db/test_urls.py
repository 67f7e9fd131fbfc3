"""Database addresses as people write them."""

import pytest

from crossdock.db.urls import masked
from crossdock.kit.errors import InvalidInputError


def test_a_shown_address_hides_its_password() -> None:
    assert masked("postgresql://owner:hunter2@db/crossdock") == "postgresql://owner:***@db/crossdock"


@pytest.mark.parametrize("dsn", ["hunter2", "postgresql://owner:hunter2@db:port/crossdock"])
def test_an_address_that_cannot_be_read_is_told_without_its_password(dsn: str) -> None:
    with pytest.raises(InvalidInputError, match="postgresql://user:password@host") as caught:
        masked(dsn)
    assert "hunter2" not in caught.value.message
