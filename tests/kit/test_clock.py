import pytest

from crossdock.kit.clock import SetBacks
from tests.hub import MovableClock


def test_a_clock_that_is_set_back_is_noticed_once() -> None:
    clock = MovableClock()
    set_backs = SetBacks(clock)
    assert not set_backs.since_last()
    clock.move(-3600)
    assert set_backs.since_last().total_seconds() == pytest.approx(3600, abs=1)
    assert not set_backs.since_last()


def test_a_clock_that_is_set_forward_was_not_set_back_and_nor_is_it_until_it_is() -> None:
    clock = MovableClock()
    set_backs = SetBacks(clock)
    clock.move(3600)
    assert not set_backs.since_last()
    clock.move(-60)
    assert set_backs.since_last().total_seconds() == pytest.approx(60, abs=1)


def test_small_steps_back_add_up() -> None:
    clock = MovableClock()
    set_backs = SetBacks(clock)
    clock.move(-0.6)
    assert not set_backs.since_last()
    clock.move(-0.6)
    assert set_backs.since_last().total_seconds() == pytest.approx(1.2, abs=0.3)
