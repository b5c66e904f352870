"""What tells a process to stop, as an event."""

import asyncio
import signal
from collections.abc import Coroutine
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


async def run_until(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Run `work`, which has no end of its own; on `stop` it is given up where it stands."""
    async with asyncio.TaskGroup() as group:
        running = group.create_task(work)
        await stop.wait()
        running.cancel()
