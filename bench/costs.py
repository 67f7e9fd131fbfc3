"""What work costs: CPU of hub and PostgreSQL, log written, commits, room taken."""

from dataclasses import dataclass

from bench.scratch import Installation


@dataclass(frozen=True, slots=True)
class Spent:
    """What an installation has spent so far; `commits` are transactions that wrote something."""

    hub_cpu_s: float
    postgres_cpu_s: float
    wal_bytes: int
    commits: int
    stored_bytes: int


async def spent(hubs: Installation) -> Spent:
    """What has been spent by now."""
    row = (await hubs.fetch(_SPENT))[0]
    return Spent(
        hub_cpu_s=sum(hub.cpu_s() for hub in hubs.hubs if not hub.ended),
        postgres_cpu_s=hubs.postgres_cpu_s(),
        wal_bytes=int(row["wal_bytes"]),
        commits=int(row["commits"]),
        stored_bytes=int(row["stored_bytes"]),
    )


def costs_of(unit: str, count: int, before: Spent, after: Spent) -> dict[str, float]:
    """What each of so many units (`event`) cost between the two."""
    return {
        f"hub_cpu_us_per_{unit}": (after.hub_cpu_s - before.hub_cpu_s) / count * 1e6,
        f"postgres_cpu_us_per_{unit}": (after.postgres_cpu_s - before.postgres_cpu_s) / count * 1e6,
        f"wal_bytes_per_{unit}": (after.wal_bytes - before.wal_bytes) / count,
        f"commits_per_{unit}": (after.commits - before.commits) / count,
        f"stored_bytes_per_{unit}": (after.stored_bytes - before.stored_bytes) / count,
    }


# The next transaction number: those before it are taken by writers, or given back to nobody.
_SPENT = """
SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0') AS wal_bytes,
       pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS commits,
       pg_database_size(current_database()) AS stored_bytes
"""
