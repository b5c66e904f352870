"""Stop signals as an event, and loops that run until it is set."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Sequence
from collections.abc import Set as AbstractSet
from datetime import timedelta
from typing import Any


def stop_signal() -> asyncio.Event:
    """Make an event that each of the `stop_signals` sets instead of its usual effect."""
    stop = asyncio.Event()
    for number in stop_signals():
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def stop_signals() -> AbstractSet[signal.Signals]:
    """Return SIGTERM, SIGINT and, unless it is ignored as under `nohup`, SIGHUP.

    A terminal that is closed sends SIGHUP to its programs.
    """
    hears_hangup = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    return {signal.SIGTERM, signal.SIGINT} | ({signal.SIGHUP} if hears_hangup else set())


async def run_until(
    stop: asyncio.Event,
    loops: Sequence[Coroutine[Any, Any, None]],
    *,
    ring: Callable[[], None] = lambda: None,
    within: timedelta = timedelta(),
) -> None:
    """Run loops until `stop`, then ring them; those that have not ended `within` are cancelled.

    Without `ring` and `within` they are cancelled wherever they are. Workers' loops have a grace
    period of their own for what is under way, but none while they claim.
    """
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(loop) for loop in loops]
        await stop.wait()
        ring()
        _, stuck = await asyncio.wait(running, timeout=within.total_seconds())
        for loop in stuck:
            loop.cancel()
