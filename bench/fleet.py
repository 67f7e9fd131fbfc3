"""The hub's processes and its database, each of which can be killed and comes back."""

import asyncio
from collections import Counter

from bench.rig import Rig

# A killed worker's lanes are free when its lease ends: by default after ten seconds, in which little would happen.
LEASE_S = "3"
# Should an attempt fail because its sender was killed, it is tried again while we look.
RETRIES = {"retries": 10, "intervals_s": [1.0]}
_DOWN_S = 0.5


class Fleet:
    """What runs of an installation; `kills` counts by name."""

    def __init__(self, running: Rig) -> None:
        self._installation = running.hubs
        self.hubs = list(running.hubs.hubs)
        self.kills: Counter[str] = Counter()

    async def become(self, name: str) -> None:
        """Stop what runs, in order, and start this one process."""
        for hub in self.hubs:
            await hub.stop()
        self.hubs = [await self._installation.start(name)]

    async def kill(self, name: str) -> None:
        """SIGKILL of PostgreSQL, or of the last process of this name; a short while without it, and a new start."""
        self.kills[name] += 1
        if name == "postgres":
            self._installation.kill_postgres()
            await asyncio.sleep(_DOWN_S)
            await self._installation.restart_postgres()
            return
        position = max(at for at, hub in enumerate(self.hubs) if hub.name == name)
        await self.hubs[position].kill()
        await asyncio.sleep(_DOWN_S)
        self.hubs[position] = await self._installation.start(name)
