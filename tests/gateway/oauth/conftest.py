"""What the tests of OAuth share."""

from datetime import UTC, datetime

import pytest

from crossdock.kit.clock import FixedClock


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 1, 1, tzinfo=UTC))
