"""What happened to jobs since the last look, read for many waiters in a few statements."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.natural_batch import NaturalBatch
from app.db.engine import Database
from app.events import log
from app.events.cursor import Cursor
from app.events.tail import Entry, Whose, end_of_log, read_on
from app.jobs.errors import JobNotFoundError
from app.jobs.models import Job
from app.jobs.repository import JobRepository
from app.jobs.state import TERMINAL, JobState

_PAGE = 100
# Clients see `submitting` as `pending`, which the job already was: no news for them.
_SHOWN = frozenset(state.value for state in JobState) - {JobState.SUBMITTING.value}


class Moment:
    """A job as it was right after one of its events; everyone waiting for it shares the object."""

    __slots__ = ("job", "rendered", "seq")

    def __init__(self, job: Job, seq: int) -> None:
        self.job = job
        self.seq = seq
        self.rendered: bytes | None = None


@dataclass(frozen=True, slots=True)
class JobNews:
    """`moments` is what is new; `job` is the job as it is now."""

    job: Job
    moments: Sequence[Moment]


@dataclass(frozen=True, slots=True)
class CallerNews:
    moments: Sequence[tuple[Cursor, Moment]]
    end: Cursor
    is_full: bool


_Question = tuple[str, int | None]
_CallersQuestion = tuple[Whose, Cursor]


class JobFeed:
    """Checks no permissions: callers do so beforehand."""

    def __init__(self, *, database: Database) -> None:
        self._database = database
        self._of_jobs = NaturalBatch(self._read_jobs)
        self._of_callers = NaturalBatch(self._read_callers)

    async def of_job(self, job_id: str, *, after: int | None) -> JobNews:
        """Return what happened after event `after`; if that is None or in the future, the job now.

        Raises JobNotFoundError.
        """
        return await self._of_jobs((job_id, after))

    async def of_caller(self, whose: Whose, *, after: Cursor) -> CallerNews:
        return await self._of_callers((whose, after))

    async def start(self, after: Cursor | None) -> Cursor:
        """Return where to read on: at `after` if given, but never beyond the end of the log."""
        end = await self._database.look_up(end_of_log)
        return end if after is None or after.is_after(end) else after

    async def _read_jobs(self, questions: Sequence[_Question]) -> Sequence[JobNews | Exception]:
        async def work(
            connection: AsyncConnection,
        ) -> tuple[Mapping[str, Job], Mapping[str, Sequence[log.JobEvent]]]:
            jobs = await JobRepository(connection).find_many(sorted({q[0] for q in questions}))
            since: dict[str, int] = {}
            for job_id, after in questions:
                if job_id in jobs and after is not None and after < jobs[job_id].event_seq:
                    since[job_id] = min(after, since.get(job_id, after))
            return jobs, await log.read_many(connection, since) if since else {}

        jobs, events = await self._database.look_up(work)
        moments = {job_id: _moments(jobs[job_id], some) for job_id, some in events.items()}
        now = {job_id: Moment(job, job.event_seq) for job_id, job in jobs.items()}
        answers: list[JobNews | Exception] = []
        for job_id, after in questions:
            if job_id not in jobs:
                answers.append(JobNotFoundError(job_id))
            elif after is None or after > jobs[job_id].event_seq:
                answers.append(JobNews(jobs[job_id], [now[job_id]]))
            else:
                fresh = [moment for moment in moments.get(job_id, ()) if moment.seq > after]
                answers.append(JobNews(jobs[job_id], fresh))
        return answers

    async def _read_callers(self, questions: Sequence[_CallersQuestion]) -> Sequence[CallerNews]:
        """Read once for all who ask the same, as several browser tabs of one user do."""
        asked = dict.fromkeys(questions)

        async def work(connection: AsyncConnection) -> Sequence[CallerNews]:
            return [await _callers_news(connection, *question) for question in asked]

        answers = dict(zip(asked, await self._database.read(work), strict=True))
        return [answers[question] for question in questions]


async def _callers_news(connection: AsyncConnection, whose: Whose, after: Cursor) -> CallerNews:
    page = await read_on(connection, after, whose=whose, limit=_PAGE)
    by_job: dict[str, list[Entry]] = {}
    for entry in page.entries:
        by_job.setdefault(entry.job_id, []).append(entry)
    jobs = await JobRepository(connection).find_many(sorted(by_job)) if by_job else {}
    moments = {
        (job_id, moment.seq): moment
        for job_id, job in jobs.items()
        for moment in _moments(job, by_job[job_id])
    }
    shown = [
        (entry.cursor, moments[entry.job_id, entry.seq])
        for entry in page.entries
        if (entry.job_id, entry.seq) in moments
    ]
    return CallerNews(shown, page.end, page.is_full)


def _moments(job: Job, events: Sequence[log.JobEvent | Entry]) -> Sequence[Moment]:
    """Drop events newer than the job: on Postgres a log that is read after it may be ahead."""
    return [
        Moment(_as_of(job, event), event.seq)
        for event in events
        if event.type in _SHOWN and event.seq <= job.event_seq
    ]


def _as_of(job: Job, event: log.JobEvent | Entry) -> Job:
    state = JobState(event.type)
    # A later event in the same final state is only a note: nothing that clients see has changed.
    is_unchanged = state is job.state and (event.seq == job.event_seq or state in TERMINAL)
    return job if is_unchanged else job.as_of(state, at=event.at)
