"""What tells a process to stop, as an event."""

import asyncio
import signal


def stop_signal() -> asyncio.Event:
    """Make an event that SIGTERM and SIGINT set, in place of what they do otherwise."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
