"""How many files, sockets among them, a process of the hub may have open."""

import resource
from contextlib import suppress

# Enough for what a process has under way at most; some systems name no bound, and take none so high.
_ENOUGH = 65_536


def allow_many_open_files() -> None:
    """Take as many as the system lets this process have without asking: many systems begin with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
