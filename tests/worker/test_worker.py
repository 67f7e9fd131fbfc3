import asyncio
from collections import Counter

from crossdock.bootstrap import Services
from crossdock.observability import metrics
from crossdock.worker.worker import Worker
from tests.hub import Hub, new_tenant, query, working
from tests.waiting import eventually


def background_tasks() -> Counter[str]:
    """How many tasks run what: names tell nothing, for a loop that waits again may do so in a new task."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    return Counter(getattr(task.get_coro(), "__qualname__", repr(task)) for task in tasks)


async def test_a_worker_that_has_stopped_leaves_nothing_behind(services: Services) -> None:
    before = background_tasks()
    async with working(services):
        await eventually(lambda: "LeaseLoop._run" in background_tasks())
        assert len(await query(services.database.dsn, "SELECT FROM workers")) == 1
    await eventually(
        lambda: background_tasks() <= before, what=lambda: f"the end of {dict(background_tasks() - before)}"
    )
    assert await query(services.database.dsn, "SELECT FROM workers") == []


async def test_a_worker_can_be_started_again_in_the_same_process(services: Services) -> None:
    hub = Hub(services, await new_tenant(services))
    for number in range(2):
        async with working(services):
            await hub.publish(number)
    assert len(await hub.query("SELECT FROM events WHERE type = 'order.created'")) == 2


async def test_a_worker_tells_what_waits(services: Services) -> None:
    hub = Hub(services, await new_tenant(services))
    await hub.subscribe("https://destination.example/", verify=False)
    await hub.query("UPDATE subscriptions SET status = 'active'")
    await hub.publish(1, 2, 3)
    await Worker(services)._sample_backlog()
    assert metrics.BACKLOG._value.get() == 3
    assert metrics.OLDEST_DUE_S._value.get() >= 0
