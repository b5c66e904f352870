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
# Clients see these as `pending`, which the job was before: no news for them.
_SHOWN = frozenset(state.value for state in JobState) - {JobState.SUBMITTING.value}


class Moment:
    """A job as it was right after one of its events; all that wait for it share this object."""

    __slots__ = ("job", "rendered", "seq")

    def __init__(self, job: Job, seq: int) -> None:
        self.job = job
        self.seq = seq
        self.rendered: bytes | None = None


@dataclass(frozen=True, slots=True)
class JobNews:
    """`moments` are what is new; `job` is the job as it is now."""

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
    """Callers check first whether somebody may look."""

    def __init__(self, *, database: Database) -> None:
        self._database = database
        self._of_jobs = NaturalBatch(self._read_jobs)
        self._of_callers = NaturalBatch(self._read_callers)

    async def of_job(self, job_id: str, *, after: int | None) -> JobNews:
        """Return what happened after an event; without one, or for a future one, the job as it is.

        Raises JobNotFoundError.
        """
        return await self._of_jobs((job_id, after))

    async def of_caller(self, whose: Whose, *, after: Cursor) -> CallerNews:
        return await self._of_callers((whose, after))

    async def start(self, after: Cursor | None) -> Cursor:
        """Return the end of the log, or a place before it that somebody has already reached."""
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
        """Read once for all who ask for the same, as several pages of one user do."""
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
    """Return the events that the job already shows: on Postgres a log read later may be ahead."""
    return [
        Moment(_as_of(job, event), event.seq)
        for event in events
        if event.type in _SHOWN and event.seq <= job.event_seq
    ]


def _as_of(job: Job, event: log.JobEvent | Entry) -> Job:
    state = JobState(event.type)
    # A later event in the same final state was a note, which changed nothing that is shown.
    is_unchanged = state is job.state and (event.seq == job.event_seq or state in TERMINAL)
    return job if is_unchanged else job.as_of(state, at=event.at)
