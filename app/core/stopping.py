"""What tells a process to stop, as an event, and loops that run until it does."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any


def stop_signal() -> asyncio.Event:
    """Make an event that SIGTERM and SIGINT set, in place of what they do otherwise.

    And SIGHUP, of a terminal that is closed, unless it is ignored, as after `nohup`.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        numbers.remove(signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    return stop


async def run_until(
    stop: asyncio.Event,
    loops: Sequence[Coroutine[Any, Any, None]],
    *,
    ring: Callable[[], None] = lambda: None,
    within: timedelta = timedelta(),
) -> None:
    """Run loops until `stop`, then ring them; what has not ended `within` is cancelled.

    Without a ring and a time for it, each is given up where it stands. Those of workers have a
    grace of their own for what is under way, but none while they claim.
    """
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(loop) for loop in loops]
        await stop.wait()
        ring()
        _, stuck = await asyncio.wait(running, timeout=within.total_seconds())
        for loop in stuck:
            loop.cancel()
