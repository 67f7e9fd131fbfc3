"""`crossdock demo`: real payloads through the running hub, to three receivers, and an account of every event."""

import asyncio
import fcntl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
from rich.console import Console

from crossdock.cli.demo.child import Child, environment
from crossdock.cli.demo.errors import DemoError, HubError
from crossdock.cli.demo.hub import Hub, connected
from crossdock.cli.demo.reconciliation import Account
from crossdock.cli.demo.samples import Webhook, endless
from crossdock.cli.demo.sending import Senders
from crossdock.cli.demo.stage import Options, disabled, in_turn, staged
from crossdock.cli.demo_tenant import noted
from crossdock.cli.running import running_hub
from crossdock.db.embedded.layout import make_data_dir

_START_WITHIN_S = 120.0
_POLL_S = 0.2
_SETTLE_WITHIN_S = 25.0
_SETTLED_PER_S = 100
_PATIENCE_S = 5.0
_RECEIVER_DELAY_S = 0.02
# Slow enough to be watched; many events go faster.
_EVERY_S, _SENDING_S = 0.07, 6.0
_AT_ONCE = 8
_REPEATED_EVERY = 10
_FORGERIES = 3
_UNAUTHORIZED, _FORBIDDEN = 401, 403


async def run(data_dir: Path, options: Options, console: Console) -> Account:
    """The demo on the hub of this data folder, which is started for its length when it does not run."""
    async with AsyncExitStack() as stack:
        stack.enter_context(_only_one(data_dir))
        url, key = await stack.enter_async_context(_hub_in_reach(data_dir, console, quiet=options.quiet))
        hub = await stack.enter_async_context(connected(url=url, key=key, patience_s=_PATIENCE_S))
        try:
            return await _run(hub, options, console)
        except HubError as error:
            raise _explained(error, url) from error


async def _run(hub: Hub, options: Options, console: Console) -> Account:
    async with staged(hub, console, options, patience_s=_PATIENCE_S, delay_s=_RECEIVER_DELAY_S) as stage:
        try:
            stage.board.say(f"Sending to {hub.url} as GitHub, Stripe, DocuSign and Twilio would.")
            actions = _actions(stage.senders, options)
            await in_turn(actions, every_s=min(_EVERY_S, _SENDING_S / len(actions)), at_once=_AT_ONCE)
            stage.board.say("All is sent; waiting for the deliveries.")
            if not await stage.settled(_SETTLE_WITHIN_S + options.events / _SETTLED_PER_S):
                stage.board.say("The time is over before everything has arrived.")
            account = await stage.account()
        finally:
            await disabled(stage)
        account.notes.append("The demo's subscriptions are disabled now, since their receivers end with it.")
        return account


def _actions(senders: Senders, options: Options) -> list[Callable[[], Awaitable[None]]]:
    """Every event once; some of them a second time, and a few forged ones in between."""
    webhooks = [sample.webhook() for sample in islice(endless(options.samples), options.events)]
    actions: list[Callable[[], Awaitable[None]]] = []
    forged_every = max(1, len(webhooks) // _FORGERIES)
    for number, webhook in enumerate(webhooks):
        repeated = number % _REPEATED_EVERY == 0
        actions.append(partial(_send_twice if repeated else _send, senders, webhook))
        if number % forged_every == forged_every - 1:
            actions.append(partial(senders.send_forged, options.samples[number % len(options.samples)].webhook()))
    return actions


async def _send(senders: Senders, webhook: Webhook) -> None:
    await senders.send(webhook)


async def _send_twice(senders: Senders, webhook: Webhook) -> None:
    await senders.send(webhook)
    await senders.send_again(webhook)


@asynccontextmanager
async def _hub_in_reach(data_dir: Path, console: Console, *, quiet: bool) -> AsyncIterator[tuple[str, str]]:
    """Address and key of the running hub, or of one that runs for the length of the block."""
    url = running_hub(data_dir)
    if url is not None:
        yield url, _key(data_dir, url)
        return
    if not quiet:
        console.print(f"No hub runs on {data_dir}; starting one for the length of the demo.")
    with TemporaryDirectory(prefix="crossdock-demo-") as folder:
        child = Child("serve", "--demo", environment=environment(data_dir, port="0"), log=Path(folder) / "hub.log")
        try:
            url = await _started(child, data_dir)
            yield url, _key(data_dir, url)
        finally:
            await child.stop()


async def _started(child: Child, data_dir: Path) -> str:
    """The address of the hub once it answers and has made its demo tenant."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_START_WITHIN_S), aiohttp.ClientSession() as session:
            while True:
                child.check()
                url, tenant = running_hub(data_dir), noted(data_dir)
                if url is not None and tenant is not None:
                    with suppress(aiohttp.ClientError):
                        headers = {"Authorization": f"Bearer {tenant.key}"}
                        async with session.get(f"{url}/api/v1/events?limit=1", headers=headers) as answer:
                            if answer.ok:
                                return url
                await asyncio.sleep(_POLL_S)
    raise DemoError(f"`crossdock serve --demo` did not answer within {_START_WITHIN_S:.0f} s.")


def _key(data_dir: Path, url: str) -> str:
    tenant = noted(data_dir)
    if tenant is None:
        raise DemoError(f"The hub at {url} has no demo tenant: stop it, and start it with `crossdock serve --demo`.")
    return tenant.key


def _explained(error: HubError, url: str) -> DemoError:
    if error.status_code in {_UNAUTHORIZED, _FORBIDDEN}:
        return DemoError(
            f"The hub at {url} does not know the demo tenant's key any more: start it with `crossdock serve --demo`, "
            f"which makes a new one. {error.message}"
        )
    return error


@contextmanager
def _only_one(data_dir: Path) -> Iterator[None]:
    """Keep a second demo away: each would take the other's subscriptions for leftovers."""
    make_data_dir(data_dir)
    with (data_dir / "demo.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError(f"Another demo runs on {data_dir}; wait for its end.") from None
        yield
