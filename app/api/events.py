"""/v1/jobs/{id}/events and /v1/events: what happens to jobs, as server-sent events."""

import re
from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response

from app.api.deps import CALLER_PROBLEMS, CREDENTIALS, Gateway, Reader, caller, header_of
from app.api.links import Expires, Grant, InvalidSignatureError, Signature, holder_of_link
from app.api.problems import InvalidParameterError, problem_responses
from app.api.routing import Router
from app.api.streaming import EventStream, News
from app.auth.models import Principal
from app.auth.scopes import Scope
from app.events.cursor import Cursor
from app.events.hub import TooManyStreamsError
from app.events.tail import Whose
from app.jobs.errors import JobNotFoundError
from app.jobs.feed import Moment
from app.jobs.links import LinkClaim
from app.jobs.state import TERMINAL
from app.jobs.wire import JobRead

router = Router(
    prefix="/v1",
    tags=["events"],
    responses=problem_responses(*CALLER_PROBLEMS, TooManyStreamsError),
)

_NUMBER = re.compile(r"[0-9]{1,18}")
_STREAM: dict[str, Any] = {
    "description": "Events until the stream ends.",
    "content": {
        "text/event-stream": {
            "schema": {"type": "string"},
            "example": 'id: 4\nevent: job.in_progress\ndata: {"id":"job_01m82...", ...}\n\n',
        }
    },
}

_authenticate = caller(Scope.JOBS_READ)


@CREDENTIALS
async def _follower(
    gateway: Gateway,
    request: Request,
    job_id: str,
    grant: Grant = None,
    expires: Expires = None,
    signature: Signature = None,
) -> Principal:
    """Accept a link or a credential; an invalid signature is refused even beside a valid key."""
    if signature is None:
        return await _authenticate(request)
    if grant is None or expires is None:
        raise InvalidSignatureError
    claim = LinkClaim(grant, expires, signature)
    return await holder_of_link(gateway, request, claim, job_id=job_id, path="events")


Follower = Annotated[Principal, Depends(_follower)]
LastEventId = Annotated[
    str | None, Header(alias="Last-Event-ID", description="Resume after the event with this `id`.")
]


class CallersJobRead(JobRead):
    """A job among those of others: the caller's own, or that of a user it acts for."""

    user: str


@router.get(
    "/jobs/{job_id}/events",
    status_code=200,
    summary="Follow a job",
    description=(
        "Server-sent events: `event` is `job.<status>`, `data` the job in one line, `id` its event "
        "number. The stream begins with the job as it is now, or, with `Last-Event-ID`, with "
        "everything since that event (`0`: from the beginning). It ends after the final state; 204 "
        "means that nothing is left to send, and stops an EventSource. A comment every 15 s shows "
        "that the connection is alive."
    ),
    response_class=EventStream,
    # A key, or a signature in the link.
    openapi_extra={"security": [{"HTTPBearer": []}, {}]},
    responses={
        200: _STREAM,
        204: {"description": "The job is final, and its last event was `Last-Event-ID`."},
        **problem_responses(JobNotFoundError, InvalidSignatureError),
    },
)
async def follow_job(
    gateway: Gateway,
    caller: Follower,
    job_id: str,
    request: Request,
    _last_event_id: LastEventId = None,
) -> Response:
    await gateway.jobs.get(job_id, user_id=caller.user_id)
    source = _JobEvents(gateway, job_id, after=_number(header_of(request, "Last-Event-ID")))
    with ExitStack() as stack:
        stack.enter_context(gateway.hub.place(caller.user_id))
        holder = caller.holder(Scope.JOBS_READ)
        watch = stack.enter_context(gateway.hub.watch(job_id, holder=holder))
        watch.knows = source.knows
        first = await source.read()
        if first.is_last and not first.events:
            return Response(status_code=204)
        return EventStream(
            first, source=source, watch=watch, resources=stack.pop_all(), clock=gateway.clock
        )


@router.get(
    "/events",
    status_code=200,
    summary="Follow all your jobs",
    description=(
        "The same events for all of the caller's jobs; `data` names the `user` of each. A key with "
        "`act_as` that sends no X-Gateway-User also follows its users' jobs. The stream begins "
        "now, or after `Last-Event-ID` (`0`: from the beginning); every event comes exactly once. "
        "The `id` is opaque; heartbeats have one too."
    ),
    response_class=EventStream,
    responses={200: _STREAM},
)
async def follow_all_jobs(
    gateway: Gateway, caller: Reader, request: Request, _last_event_id: LastEventId = None
) -> Response:
    whose = _whose(caller)
    after = _cursor(header_of(request, "Last-Event-ID"))
    with ExitStack() as stack:
        stack.enter_context(gateway.hub.place(caller.user_id))
        acting = [Scope.ACT_AS] if whose.with_theirs else []
        holder = caller.holder(Scope.JOBS_READ, *acting)
        watch = stack.enter_context(gateway.hub.watch(whose, holder=holder))
        source = _CallerEvents(gateway, whose, after=await gateway.feed.start(after))
        watch.knows = source.knows
        watch.tell()
        return EventStream(
            News([]), source=source, watch=watch, resources=stack.pop_all(), clock=gateway.clock
        )


class _JobEvents:
    """What happened to a job since the last read."""

    __slots__ = ("_after", "_gateway", "_job_id")

    def __init__(self, gateway: Gateway, job_id: str, *, after: int | None) -> None:
        self._gateway = gateway
        self._job_id = job_id
        self._after = after

    async def read(self) -> News:
        try:
            news = await self._gateway.feed.of_job(self._job_id, after=self._after)
        except JobNotFoundError:
            return News([], is_last=True)  # erased in the meantime
        self._after = news.job.event_seq
        events = [b"id: %d\n%b" % (each.seq, _body(self._gateway, each)) for each in news.moments]
        return News(events, is_last=news.job.state in TERMINAL)

    def knows(self, entry: Any) -> bool:
        return self._after is not None and entry.seq <= self._after

    def heartbeat(self) -> bytes:
        return b": heartbeat\n\n"


class _CallerEvents:
    """What happened to a caller's jobs since the last read, page by page."""

    __slots__ = ("_after", "_gateway", "_whose")

    def __init__(self, gateway: Gateway, whose: Whose, *, after: Cursor) -> None:
        self._gateway = gateway
        self._whose = whose
        self._after = after

    async def read(self) -> News:
        news = await self._gateway.feed.of_caller(self._whose, after=self._after)
        self._after = news.end
        events = [
            b"id: %b\n%b" % (str(cursor).encode(), _body(self._gateway, moment, with_user=True))
            for cursor, moment in news.moments
        ]
        return News(events, has_more=news.is_full)

    def knows(self, entry: Any) -> bool:
        return self._after.has(entry.xid, entry.number)

    def heartbeat(self) -> bytes:
        return b": heartbeat\nid: %b\n\n" % str(self._after).encode()


def _body(gateway: Gateway, moment: Moment, *, with_user: bool = False) -> bytes:
    """Render an event without its id, once for all streams."""
    if moment.rendered is None:
        job = moment.job
        read = gateway.wire.read(job, at=gateway.clock.now())
        if with_user:
            read = CallersJobRead.model_construct(**dict(read), user=job.user_id)
        text = f"event: job.{job.state.status}\ndata: {read.model_dump_json()}\n\n"
        moment.rendered = text.encode()
    return moment.rendered


def _whose(caller: Principal) -> Whose:
    is_owner = Scope.ACT_AS in caller.scopes and "/" not in caller.user_id
    return Whose(caller.user_id, with_theirs=is_owner)


def _number(last_event_id: str | None) -> int | None:
    """Read an event number; ignore anything else, since the current job tells it all."""
    if last_event_id is None or not _NUMBER.fullmatch(last_event_id):
        return None
    return int(last_event_id)


def _cursor(last_event_id: str | None) -> Cursor | None:
    if not last_event_id:
        return None
    cursor = Cursor.parse(last_event_id)
    if cursor is None:
        raise InvalidParameterError(
            "Last-Event-ID",
            "That Last-Event-ID is not one that this stream gave; without one it begins with what"
            " happens from now on.",
        )
    return cursor
