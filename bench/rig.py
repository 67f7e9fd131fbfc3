"""A hub under load: the scratch installation, a tenant with its subscriptions, and the receiver."""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import aiohttp
import psutil

from bench.publisher import Load
from bench.scratch import BenchError, Installation, installation, program, run_program, working
from bench.wire import OPERATOR, Publications, Receipts, event_type
from bench.yardstick import Posts
from crossdock.kit.permissions import Permission

_POLL_S = 0.05
_SLACK_S = 60.0
_PATIENCE_S = 30.0
_SUBSCRIBED_AT_ONCE = 8
_MOST_RATE = 2**31 - 1
# More than it comes to in all its turns; and after how many it is as fast as it gets.
_MOST_POSTS = 1_000_000
_WARM_POSTS = 2_000
SUBSCRIPTIONS = "/api/v1/webhooks/subscriptions"
_NEEDED = (
    Permission.EVENT_PUBLISH,
    Permission.WEBHOOK_MANAGE,
    Permission.WEBHOOK_READ,
    Permission.INTEGRATION_READ,
    Permission.INTEGRATION_ADMIN,
)
_PENDING = "SELECT count(*) FROM deliveries WHERE status = 'pending'"


class Rig:
    """One installation and one receiver; `key` is an API key of the bench's tenant."""

    def __init__(self, hubs: Installation, session: aiohttp.ClientSession, receiver_port: int) -> None:
        self.hubs = hubs
        self.receiver_port = receiver_port
        self.key = ""
        self._session = session

    async def make_tenant(self, slug: str = "bench") -> str:
        """Make a tenant; a key of it whose limit nothing here reaches."""
        tenant = {"slug": slug, "name": slug, "owner_email": f"{slug}@example.com"}
        made = await self.call("POST", OPERATOR, tenant, key=self.hubs.operator_key)
        scopes = [permission.value for permission in _NEEDED]
        wanted = {"name": "bench", "scopes": scopes, "rate_limit_per_hour": _MOST_RATE}
        key: str = (await self.call("POST", "/api/v1/apikeys", wanted, key=made["api_key"]))["key"]
        return key

    async def subscribe(
        self,
        destination: int,
        *,
        to: str | None = None,
        also: str | None = None,
        behaviour: str = "ok",
        key: str | None = None,
        **settings: object,
    ) -> str:
        """Add an active subscription of this destination to its own type of event or `to`, and to `also`; its id."""
        wanted = {
            "name": f"{behaviour} {destination}",
            "url": f"http://127.0.0.1:{self.receiver_port}/{behaviour}/{destination}",
            "event_types": [to or event_type(destination), *([also] if also else [])],
            "verify": False,
            **settings,
        }
        made = await self.call("POST", SUBSCRIPTIONS, wanted, key=key)
        await self.call("POST", f"{SUBSCRIPTIONS}/{made['id']}/enable", key=key)
        subscription_id: str = made["id"]
        return subscription_id

    async def subscribe_all(self, destinations: int, **settings: Any) -> None:  # noqa: ANN401 - those of `subscribe`
        """Add so many subscriptions, a few at a time."""
        waiting = iter(range(destinations))

        async def work() -> None:
            for destination in waiting:
                await self.subscribe(destination, **settings)

        async with asyncio.TaskGroup() as group:
            for _ in range(_SUBSCRIBED_AT_ONCE):
                group.create_task(work())

    async def call(self, method: str, path: str, body: object = None, *, key: str | None = None) -> Any:  # noqa: ANN401 - any JSON
        """Call the API with the bench's key or another; raises BenchError unless it is answered with 2xx."""
        url = f"http://127.0.0.1:{self.hubs.port}{path}"
        headers = {"Authorization": f"Bearer {key or self.key}"}
        async with self._session.request(method, url, json=body, headers=headers) as answer:
            if not answer.ok:
                raise BenchError(f"{method} {path} was answered {answer.status}: {await answer.text()}")
            return await answer.json() if answer.content_type == "application/json" else None

    async def publish(
        self,
        *,
        stop: asyncio.Event | None = None,
        **how: Any,  # noqa: ANN401 - fields of Load
    ) -> tuple[dict[str, Any], Publications]:
        """Publish a load (the fields of `Load`) or until `stop`; what the publisher says, and when each event went."""
        # Several may publish at a time, each its own numbers.
        times = self.hubs.data_dir / f"publications-{how.get('first', 0)}"
        load = Load(**{"port": self.hubs.port, "key": self.key, "times": str(times), **how})
        limit_s = load.seconds + load.give_up_s + _SLACK_S
        outcome = await run_program("bench.publisher", asdict(load), timeout_s=limit_s, stop=stop)
        return outcome, Publications.load(load.first, times.read_bytes())

    async def post_bare(self, *, events: int, rate: float = 0.0) -> tuple[float, Publications]:
        """Let the yardstick post to the hub's receiver; when it began, and when each post went."""
        times = self.hubs.data_dir / "posts"
        posts = Posts(port=self.receiver_port, events=events, rate=rate, times=str(times))
        limit_s = _SLACK_S + (events / rate if rate else 0)
        answer = await run_program("bench.yardstick", asdict(posts), timeout_s=limit_s)
        return answer["started"], Publications.load(0, times.read_bytes())

    @asynccontextmanager
    async def posting(self) -> AsyncIterator["Poster"]:
        """The yardstick, warmed up, posting to a receiver of its own; it stands still but in its turns."""
        async with program("bench.receiver") as receiver_port:
            port = int(receiver_port)
            posts = Posts(port=port, events=_MOST_POSTS, times=str(self.hubs.data_dir / "posts"))
            async with working("bench.yardstick", asdict(posts)) as pid:
                await self.all_arrived(_WARM_POSTS, port=port)
                poster = Poster(pid, functools.partial(self.count, port=port))
                await poster.begin()
                yield poster

    async def count(self, destination: int | None = None, *, port: int | None = None) -> int:
        """How many deliveries have come to healthy destinations, or to this one; or to the receiver at `port`."""
        return int(await self._ask("count" if destination is None else f"count/{destination}", port=port))

    async def arrived(
        self, count: int, *, patience_s: float, destination: int | None = None, port: int | None = None
    ) -> bool:
        """Whether so many deliveries have come; waits while some come within `patience_s`."""
        before, since = -1, time.monotonic()
        while True:
            now = await self.count(destination, port=port)
            if now >= count:
                return True
            if now > before:
                before, since = now, time.monotonic()
            elif time.monotonic() - since > patience_s:
                return False
            await asyncio.sleep(_POLL_S)

    async def all_arrived(self, count: int, *, destination: int | None = None, port: int | None = None) -> None:
        """Wait for so many deliveries; raises BenchError when some do not come."""
        if not await self.arrived(count, patience_s=_PATIENCE_S, destination=destination, port=port):
            raise BenchError(f"Nothing more was delivered for {_PATIENCE_S:.0f} s, and not all {count} have come.")

    async def pending(self, *, patience_s: float = _PATIENCE_S) -> int:
        """Deliveries that the database still holds for pending, after time enough to record the last ones."""
        until = time.monotonic() + patience_s
        while True:
            left: int = (await self.hubs.fetch(_PENDING))[0][0]
            if not left or time.monotonic() > until:
                return left
            await asyncio.sleep(_POLL_S)

    async def receipts(self) -> Receipts:
        """What came since `forget`."""
        return Receipts.load(await self._ask("receipts"))

    async def forget(self) -> None:
        """Let the receiver forget what came."""
        await self._ask("reset")

    async def _ask(self, what: str, *, port: int | None = None) -> bytes:
        async with self._session.get(f"http://127.0.0.1:{port or self.receiver_port}/{what}") as answer:
            return await answer.read()


class Poster:
    """The yardstick at work, in turns: it stands still in between."""

    def __init__(self, pid: int, count: Callable[[], Awaitable[int]]) -> None:
        self._process = psutil.Process(pid)
        self._count = count
        self._posted_before = 0
        self._turns_s = 0.0

    async def begin(self) -> None:
        """Have it stand still; what it has posted by now does not count."""
        self._process.suspend()
        self._posted_before = await self._count()

    async def turn(self, seconds: float) -> None:
        """Let it post for so long."""
        began = time.monotonic()
        self._process.resume()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._process.suspend()
            self._turns_s += time.monotonic() - began

    async def per_s(self) -> float:
        """Posts a second in all turns."""
        return (await self._count() - self._posted_before) / self._turns_s


@asynccontextmanager
async def rig(*hub_processes: str, **settings: str) -> AsyncIterator[Rig]:
    """A running installation of these processes (`serve`, or `api` and `worker`), a tenant, a receiver."""
    async with (
        installation(**settings) as hubs,
        program("bench.receiver") as receiver_port,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
    ):
        for name in hub_processes:
            await hubs.start(name)
        made = Rig(hubs, session, int(receiver_port))
        made.key = await made.make_tenant()
        yield made
