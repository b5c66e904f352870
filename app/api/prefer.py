"""`Prefer: wait=N` (RFC 7240): answer late rather than with old news."""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Request, Response

from app.api.deps import Gateway, header_of
from app.api.described import Described
from app.api.streaming import end_on_disconnect
from app.auth.models import Holder, Principal
from app.core.clock import Clock
from app.core.errors import DatabaseUnavailableError, UnauthenticatedError
from app.core.external_wait import external_wait
from app.events.hub import TooManyStreamsError
from app.events.watch import Ending, Watch
from app.jobs.errors import JobNotFoundError
from app.jobs.models import Job

LONGEST_WAIT_S = 60

_WAIT = re.compile(r"(?:^|,)\s*wait\s*=\s*([^,;]*)", re.IGNORECASE)
_SECONDS = re.compile(r"[0-9]{1,100}")


@Described(
    {
        "Prefer": "`wait=N`: answer when there is something new, or after N seconds, at most 60"
        " (RFC 7240); `Preference-Applied` says what was applied."
    }
)
async def preferred_wait(request: Request) -> timedelta | None:
    """Return how long the caller is willing to wait, a minute at most.

    As the RFC asks, the first mention counts, and what is not understood is ignored.
    """
    found = _WAIT.search(header_of(request, "Prefer") or "")
    seconds = found[1].strip().strip('"') if found else ""
    if not _SECONDS.fullmatch(seconds):
        return None
    return timedelta(seconds=min(int(seconds), LONGEST_WAIT_S))


PreferredWait = Annotated[timedelta | None, Depends(preferred_wait)]


def set_preference_applied(response: Response, wait: timedelta) -> None:
    response.headers["Preference-Applied"] = f"wait={int(wait.total_seconds())}"


@contextmanager
def place_to_wait(
    gateway: Gateway, principal: Principal, wait: timedelta | None
) -> Iterator[TooManyStreamsError | None]:
    """Take a place if the caller wants to wait; yield the refusal, if any, to be raised later."""
    with ExitStack() as stack:
        refusal = None
        try:
            if wait:
                stack.enter_context(gateway.hub.place(principal.user_id))
        except TooManyStreamsError as exc:
            refusal = exc
        yield refusal


async def wait_for(
    gateway: Gateway,
    request: Request,
    job: Job,
    *,
    holder: Holder,
    until: Callable[[Job], bool],
    at_most: timedelta,
) -> Job:
    """Return the job once `until` holds, or as it is when time runs out or this process stops.

    A client that disconnects ends its wait. Raises UnauthenticatedError if its key ends in the
    meantime, and JobNotFoundError if the job is erased.
    """
    if until(job):
        return job
    with external_wait(gateway.clock), gateway.hub.watch(job.id, holder=holder) as watch:
        ends = (
            _end_in_time(watch, gateway.clock, at_most),
            end_on_disconnect(watch, request.receive),
        )
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(end) for end in ends]
            try:
                found = await _look_until(gateway, watch, job, until)
            finally:
                for task in tasks:
                    task.cancel()
    # Raised out here, since a task group would wrap it in an exception group.
    if found is None:
        raise JobNotFoundError(job.id)
    if watch.ending is Ending.ACCESS and not until(found):
        raise UnauthenticatedError("This credential ended while it waited.")
    return found


async def _look_until(
    gateway: Gateway, watch: Watch, job: Job, until: Callable[[Job], bool]
) -> Job | None:
    """Return the job as it was last seen; None once it is gone."""
    while True:
        watch.heed()
        ending = watch.ending
        try:
            job = (await gateway.feed.of_job(job.id, after=None)).job
        except JobNotFoundError:
            return None
        except DatabaseUnavailableError:
            watch.look_again()
        if until(job) or ending:
            return job
        await watch.wait()


async def _end_in_time(watch: Watch, clock: Clock, at_most: timedelta) -> None:
    await clock.sleep(at_most)
    watch.end(Ending.TIME)
