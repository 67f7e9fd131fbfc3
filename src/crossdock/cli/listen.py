"""`crossdock listen`: a receiver on this machine that shows and verifies what arrives."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated

import aiohttp
import typer
from aiohttp import web
from rich.console import Console
from rich.markup import escape

from crossdock.cli.verifying import Verifier, verifier
from crossdock.kit.errors import CrossdockError

_MOST_BODY_BYTES = 32 * 1024 * 1024
_SHOWN_CHARACTERS = 2_000
_FORWARD_TIMEOUT_S = 30
_SERVER_ERROR = 500
_BAD_GATEWAY = 502
# What belongs to one connection and not to the message (RFC 9110, section 7.6.1), and what aiohttp sets itself.
_NOT_FORWARDED = frozenset({"host", "connection", "keep-alive", "transfer-encoding", "te", "upgrade", "content-length"})

_console = Console(highlight=False)


class ListenError(CrossdockError):
    """The receiver cannot listen."""

    code = "cannot_listen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How the receiver answers: after `delay_s` with `status`, the first `fail` times with 500."""

    status: int
    fail: int
    delay_s: float
    forward_to: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One delivery; `signature` is `ok`, `not checked`, or what is wrong with it."""

    at: str
    path: str
    id: str | None
    type: str | None
    attempt: int | None
    signature: str
    answered: int
    seconds: float
    forwarded: str | None
    body: str


def listen(
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 9000,
    secret: Annotated[
        str | None, typer.Option(help="The subscription's whsec_… secret or whpk_… public key, to check signatures.")
    ] = None,
    status: Annotated[int, typer.Option(min=200, max=599, help="Status to answer with.")] = 200,
    fail: Annotated[int, typer.Option(min=0, help="Answer so many deliveries with 500 first.")] = 0,
    delay: Annotated[float, typer.Option(min=0, help="Seconds to wait before answering.")] = 0,
    forward_to: Annotated[
        str | None, typer.Option(help="Pass each delivery on to this URL, and its answer back.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per delivery.")] = False,
) -> None:
    """Receive deliveries on this machine: show each, check its signature, answer as told. Ctrl-C stops it."""
    check = verifier(secret) if secret else None
    behaviour = Behaviour(status=status, fail=fail, delay_s=delay, forward_to=forward_to)
    show = _print_line if as_json else _print_pretty
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(port, Listener(check=check, behaviour=behaviour, show=show), quiet=as_json))


class Listener:
    """Takes deliveries in and shows each of them."""

    def __init__(self, *, check: Verifier | None, behaviour: Behaviour, show: Callable[[Arrival], None]) -> None:
        self._check = check
        self._behaviour = behaviour
        self._show = show
        self._count = 0
        self._session: aiohttp.ClientSession | None = None

    def app(self) -> web.Application:
        """The receiver's application: any path, any method."""
        app = web.Application(client_max_size=_MOST_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._receive)
        app.cleanup_ctx.append(self._client)
        return app

    async def _client(self, _app: web.Application) -> AsyncIterator[None]:
        timeout = aiohttp.ClientTimeout(total=_FORWARD_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
            self._session = session
            yield

    async def _receive(self, request: web.Request) -> web.Response:
        started = asyncio.get_running_loop().time()
        body = await request.read()
        self._count += 1
        fault = self._check(request.headers, body) if self._check else "not checked"
        await asyncio.sleep(self._behaviour.delay_s)
        answer, forwarded = await self._answer(request, body)
        attempt = request.headers.get("crossdock-attempt", "")
        self._show(
            Arrival(
                at=datetime.now(UTC).isoformat(timespec="milliseconds"),
                path=request.path_qs,
                id=request.headers.get("webhook-id"),
                type=request.headers.get("crossdock-event-type"),
                attempt=int(attempt) if attempt.isdecimal() else None,
                signature=fault or "ok",
                answered=answer.status,
                seconds=round(asyncio.get_running_loop().time() - started, 3),
                forwarded=forwarded,
                body=body.decode(errors="replace"),
            )
        )
        return answer

    async def _answer(self, request: web.Request, body: bytes) -> tuple[web.Response, str | None]:
        if self._count <= self._behaviour.fail:
            return web.Response(status=_SERVER_ERROR, text="failing, as told"), None
        if self._behaviour.forward_to is None or self._session is None:
            return web.Response(status=self._behaviour.status), None
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_FORWARDED}
        try:
            async with self._session.request(
                request.method, self._behaviour.forward_to, data=body, headers=headers, allow_redirects=False
            ) as answer:
                kept = {"Content-Type": answer.headers.get("Content-Type", "application/octet-stream")}
                forwarded = web.Response(status=answer.status, body=await answer.read(), headers=kept)
                return forwarded, f"{self._behaviour.forward_to} answered {answer.status}"
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = f"{self._behaviour.forward_to} could not be reached: {str(error) or type(error).__name__}"
            return web.Response(status=_BAD_GATEWAY, text=reason), reason


async def _serve(port: int, listener: Listener, *, quiet: bool) -> None:
    runner = web.AppRunner(listener.app(), handle_signals=False)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        try:
            await site.start()
        except OSError as error:
            raise ListenError(f"Cannot listen on port {port}: {error.strerror}. Choose another with --port.") from error
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        if quiet:
            print(json.dumps({"listening": url}), flush=True)  # noqa: T201 - a line for programs
        else:
            _console.print(f"Listening on [bold]{url}[/bold]  (Ctrl-C stops it)\n")
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def _print_line(arrival: Arrival) -> None:
    print(json.dumps(asdict(arrival)), flush=True)  # noqa: T201 - a line for programs


def _print_pretty(arrival: Arrival) -> None:
    colour = "green" if arrival.signature == "ok" else "yellow" if arrival.signature == "not checked" else "red"
    attempt = f"  attempt {arrival.attempt}" if arrival.attempt is not None else ""
    _console.print(
        f"[dim]{arrival.at[11:23]}[/dim]  [bold]{escape(arrival.type or arrival.path)}[/bold]  "
        f"{escape(arrival.id or '(no webhook-id)')}{attempt}  "
        f"signature [{colour}]{escape(arrival.signature)}[/{colour}]  answered {arrival.answered}"
    )
    if arrival.forwarded:
        _console.print(f"  [dim]{escape(arrival.forwarded)}[/dim]")
    _console.print(escape(_readable(arrival.body)) + "\n", soft_wrap=True)


def _readable(body: str) -> str:
    with suppress(ValueError):
        body = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    if len(body) <= _SHOWN_CHARACTERS:
        return body
    return f"{body[:_SHOWN_CHARACTERS]}\n… {len(body) - _SHOWN_CHARACTERS} characters more"
