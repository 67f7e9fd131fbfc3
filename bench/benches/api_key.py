"""`api_key`: what the check of an API key costs an event on its way in, in this process and without HTTP."""

import time
from statistics import median
from typing import Any

from bench.bars import Bars, at_most
from bench.options import Options
from bench.rig import rig
from bench.wire import PUBLISH
from crossdock.db.engine import Database
from crossdock.features.identity.api_keys.allowances import Allowances
from crossdock.features.identity.api_keys.usage import UsageWriter
from crossdock.features.identity.authentication import Authenticator
from crossdock.http.access import admit
from crossdock.http.correlation import begin_correlation
from crossdock.kit.clock import SystemClock
from crossdock.kit.permissions import Permission

TITLE = "CPU microseconds of one check of an API key on the way in"
BARS: Bars = (at_most("cpu_us_per_check", 100),)

_CHECKS = 20_000
_ROUNDS = 5


async def run(options: Options) -> dict[str, object]:
    """Who it is, whether it may, and the count against its hourly limit; what every publication passes through."""
    checks = options.events or _CHECKS
    async with rig("api") as running:
        database = Database(running.hubs.dsn)
        await database.open()
        try:
            gatekeeper = _gatekeeper(database)
            await _cpu_us(gatekeeper, running.key, 1)
            rounds = [await _cpu_us(gatekeeper, running.key, checks) for _ in range(_ROUNDS)]
        finally:
            await database.close()
    return {"cpu_us_per_check": median(rounds), "checks": checks * _ROUNDS}


def _gatekeeper(database: Database) -> Authenticator:
    clock = SystemClock()
    return Authenticator(
        database=database,
        clock=clock,
        allowances=Allowances(database=database, clock=clock),
        usage=UsageWriter(database=database),
    )


async def _cpu_us(gatekeeper: Authenticator, key: str, checks: int) -> float:
    scopes = [_request(key) for _ in range(checks)]
    began = time.process_time()
    for scope in scopes:
        await admit(gatekeeper, scope, Permission.EVENT_PUBLISH)
    return (time.process_time() - began) / checks * 1e6


def _request(key: str) -> dict[str, Any]:
    """A publication as it stands before the door: with the headers that clients send."""
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": PUBLISH,
        "headers": [
            (b"host", b"127.0.0.1:8400"),
            (b"user-agent", b"bench"),
            (b"accept", b"*/*"),
            (b"content-type", b"application/json"),
            (b"content-length", b"1080"),
            (b"authorization", b"Bearer " + key.encode()),
        ],
    }
    begin_correlation(scope)
    return scope
