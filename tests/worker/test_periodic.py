import pytest

from crossdock.kit.errors import UnavailableError
from crossdock.worker.periodic import Periodic
from tests.waiting import eventually


async def test_a_duty_is_done_at_once_and_again_and_again() -> None:
    turns: list[None] = []

    async def duty() -> None:
        turns.append(None)

    periodic = Periodic("duty", duty, every_s=0.01)
    periodic.start()
    await eventually(lambda: len(turns) >= 3)
    await periodic.stop()
    done = len(turns)
    assert periodic._task is not None
    assert periodic._task.done()
    assert len(turns) == done


@pytest.mark.parametrize("error", [OSError("away"), UnavailableError(), ZeroDivisionError()])
async def test_a_duty_that_fails_gets_its_next_turn(error: Exception) -> None:
    turns: list[None] = []

    async def duty() -> None:
        turns.append(None)
        raise error

    periodic = Periodic("duty", duty, every_s=0.01)
    periodic.start()
    await eventually(lambda: len(turns) >= 3)
    await periodic.stop()


async def test_stopping_what_was_never_started_is_nothing() -> None:
    async def duty() -> None:
        raise AssertionError

    await Periodic("duty", duty, every_s=1).stop()
