import pytest

from crossdock.jobs.tasks import RetryPolicy, Task, TaskRegistry, TaskRun


async def _nothing(_run: TaskRun) -> None:
    pass


async def _bury(_run: TaskRun, _reason: str) -> None:
    pass


def test_delays_grow_up_to_the_longest() -> None:
    policy = RetryPolicy(first_delay_s=2, factor=4, longest_delay_s=100)
    for failed_tries, exact in ((1, 2), (2, 8), (3, 32), (4, 100), (9, 100)):
        assert exact * 0.8 <= policy.delay_s(failed_tries) <= exact * 1.2


def test_a_name_is_given_once() -> None:
    registry = TaskRegistry()
    registry.add(Task(name="a", run=_nothing, on_dead=_bury))
    with pytest.raises(ValueError, match="'a'"):
        registry.add(Task(name="a", run=_nothing, on_dead=_bury))
    assert [task.name for task in registry] == ["a"]
