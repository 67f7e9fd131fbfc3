"""How a process that runs until it is told to stop is told so."""

import asyncio
import signal


def told_to_stop() -> asyncio.Event:
    """Set by SIGTERM, SIGINT or SIGHUP; those that come later change nothing."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # A closed terminal hangs up; under nohup that is ignored, and stays so.
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stopping.set)
    return stopping
