"""`integrations`: lists of a tenant with a thousand integrations, beside a hundred tenants with as many."""

import time
from collections.abc import Callable
from urllib.parse import urlencode

from bench.bars import Bars, at_most
from bench.figures import percentile
from bench.options import Options
from bench.rig import Rig, rig
from crossdock.kit.ids import new_uuid

TITLE = "Milliseconds of lists of integrations, 1,000 in the tenant and 100,000 in others"
# Requirement I6: under 200 ms.
_BAR_MS = 200
BARS: Bars = tuple(at_most(f"{name}.p99_ms", _BAR_MS) for name in ("first_page", "whole_list", "search", "filtered"))

_EACH = 1_000
_OTHERS = 100
_ROUNDS = 100
_PAGE = 200
_LIST = "/api/v1/integrations"


async def run(options: Options) -> dict[str, object]:
    """Each list so many times (`events`, 100), one after another, through the API."""
    rounds = options.events or _ROUNDS
    async with rig("api") as running:
        await _fill(running)
        figures = {
            "first_page": await _times_ms(running, rounds, lambda _: {}),
            "search": await _times_ms(running, rounds, lambda turn: {"search": f"number {turn}"}),
            "filtered": await _times_ms(running, rounds, lambda _: {"status": "active", "type": "crm", "limit": _PAGE}),
            "whole_list": await _whole_list_ms(running, rounds),
        }
    return {name: _shares(times) for name, times in figures.items()} | {
        "integrations": _EACH,
        "others": _OTHERS * _EACH,
    }


async def _fill(running: Rig) -> None:
    async with running.hubs.connected() as connection:
        (own,) = await connection.fetch("SELECT tenant_id FROM tenants WHERE slug = 'bench'")
        others = [new_uuid() for _ in range(_OTHERS)]
        await connection.execute(_TENANTS, others)
        for tenant_id in (own["tenant_id"], *others):
            await connection.execute(_INTEGRATIONS, tenant_id, [new_uuid() for _ in range(_EACH)])
        # No ANALYZE: how long the list takes must not depend on when the database last counted.


async def _times_ms(running: Rig, rounds: int, query: Callable[[int], dict[str, object]]) -> list[float]:
    times = []
    for turn in range(-1, rounds):
        began = time.perf_counter()
        await running.call("GET", f"{_LIST}?{urlencode(query(turn))}")
        times.append((time.perf_counter() - began) * 1000)
    return times[1:]


async def _whole_list_ms(running: Rig, rounds: int) -> list[float]:
    """All pages, one after the other."""
    times = []
    for _ in range(max(1, rounds // 5)):
        began, found, cursor = time.perf_counter(), 0, None
        while True:
            asked = {"limit": _PAGE} | ({"cursor": cursor} if cursor else {})
            answer = await running.call("GET", f"{_LIST}?{urlencode(asked)}")
            found, cursor = found + len(answer["items"]), answer["next_cursor"]
            if cursor is None:
                break
        if found != _EACH:
            raise RuntimeError(f"{found} integrations were listed, not {_EACH}")
        times.append((time.perf_counter() - began) * 1000)
    return times


def _shares(times: list[float]) -> dict[str, float]:
    return {"p50_ms": percentile(times, 0.5), "p99_ms": percentile(times, 0.99)}


_TENANTS = """
INSERT INTO tenants (tenant_id, slug, name)
SELECT id, 'other-' || n, 'Other' FROM unnest($1::uuid[]) WITH ORDINALITY AS t (id, n)
"""

# As wide as real ones: 2 KB of configuration, sealed credentials.
_INTEGRATIONS = """
INSERT INTO integrations (tenant_id, id, provider, provider_version, category, environment, owner, name, description,
                          auth_method, config, credentials, credential_hints, status, health, created_by, updated_by)
SELECT $1, id, 'generic_http', '1.0.0', CASE WHEN n % 2 = 0 THEN 'crm' ELSE 'custom' END, 'production', 'user-' || n,
       'Integration number ' || n, repeat('What it is for. ', 8), 'bearer',
       jsonb_build_object('base_url', 'https://api.example/' || n, 'note', repeat(md5(id::text), 60)),
       decode(repeat(md5(id::text), 8), 'hex'), '{"token": "abcd"}', 'active', 'healthy', 'bench', 'bench'
  FROM unnest($2::uuid[]) WITH ORDINALITY AS t (id, n)
"""
