"""A job and its links as clients see them; the same in answers, streams and webhooks."""

import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from app.catalogue.portability import texts_in
from app.core.media_types import UNKNOWN, suffix_of, type_by_name
from app.core.signatures import Signer
from app.core.timestamps import rfc3339
from app.jobs.models import Job, output_urls
from app.jobs.outcomes import NOT_STARTED
from app.jobs.state import Status
from app.jobs.timing.forecast import Durations, eta
from app.quotas.numbers import shown_number, shown_usd
from app.upstream.wire import OUTPUT_KEYS, Output

_SIGNED_FOR = timedelta(hours=24)


Instant = Annotated[
    datetime, PlainSerializer(rfc3339, return_type=str, when_used="json-unless-none")
]
Seconds = Annotated[
    Decimal, PlainSerializer(shown_number, return_type=int | float, when_used="json-unless-none")
]


class JobErrorRead(BaseModel):
    code: str = Field(
        description="`refused_upstream`, `failed_upstream`, `no_output`, `timed_out`,"
        " `upstream_lost`, `file_lost`, `submit_unknown` or `ended_by_operator`; of a cancelled job"
        " `not_started_in_time`."
    )
    message: str


class JobCostRead(BaseModel):
    amount_usd: str | None = Field(description="US dollars as a decimal string; null if unknown.")
    output_seconds: Seconds | None = Field(description="Null when the input does not say.")
    state: Literal["none", "held", "settled", "released"]


class JobUrlsRead(BaseModel):
    self: str
    events: str
    cancel: str
    outputs: list[str]


class JobRead(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "job_01m823xe2bewaaqepnk4s10yx9",
                "object": "job",
                "model": "bytedance/seedance-1-0/pro/image-to-video",
                "status": "in_progress",
                "input": {
                    "prompt": "the camera drifts forward",
                    "first_frame_image_url": "https://example.com/a.png",
                    "duration": 5,
                    "resolution": "480p",
                    "ratio": "adaptive",
                },
                "output": None,
                "error": None,
                "queue_position": None,
                "pending_position": None,
                "eta_seconds": 41,
                "created_at": "2026-11-22T10:00:00.000Z",
                "submitted_at": "2026-11-22T10:00:00.150Z",
                "started_at": "2026-11-22T10:00:04.000Z",
                "finished_at": None,
                "late": False,
                "cost": {"amount_usd": "0.50", "output_seconds": 5, "state": "held"},
                "metadata": {"order": "4711"},
                "urls": {
                    "self": "https://gateway.example/v1/jobs/job_01m823xe2bewaaqepnk4s10yx9",
                    "events": (
                        "https://gateway.example/v1/jobs/job_01m823xe2bewaaqepnk4s10yx9/events"
                    ),
                    "cancel": (
                        "https://gateway.example/v1/jobs/job_01m823xe2bewaaqepnk4s10yx9/cancel"
                    ),
                    "outputs": [],
                },
            }
        }
    )

    id: str
    object: Literal["job"] = "job"
    model: str
    status: Status
    input: dict[str, Any] = Field(
        description="What was sent, with defaults of enum, number and boolean fields filled in."
    )
    output: dict[str, str | list[str]] | None = Field(
        description=(
            "RunComfy's own keys; every URL is a signed one of this gateway, valid for 24 hours."
        )
    )
    error: JobErrorRead | None = Field(
        description="Why it failed, or that it was cancelled by `start_within_seconds`."
    )
    queue_position: int | None = Field(description="Place in RunComfy's queue.")
    pending_position: int | None = Field(description="Place among the caller's waiting jobs.")
    eta_seconds: int | None = Field(
        description="Estimated seconds until it ends, the median of jobs like it; null if unknown."
    )
    created_at: Instant
    submitted_at: Instant | None
    started_at: Instant | None
    finished_at: Instant | None
    late: bool = Field(description="Whether it succeeded after it had failed or been cancelled.")
    cost: JobCostRead
    metadata: dict[str, str]
    urls: JobUrlsRead

    def length(self) -> int:
        """Count the characters of what differs much between jobs."""
        return sum(map(len, texts_in([self.input, self.output, self.metadata, self.urls.outputs])))


class JobWire:
    """Renders jobs. Links are made from `public_url`, never from what a request claims."""

    def __init__(self, *, public_url: str, signer: Signer, durations: Durations) -> None:
        self._base_url = f"{public_url.rstrip('/')}/v1"
        self._jobs_url = f"{self._base_url}/jobs"
        self._signer = signer
        self._durations = durations

    def read(self, job: Job, *, at: datetime) -> JobRead:
        outputs = [
            self._output_url(job.id, n, _name(n, url), at=at)
            for n, url in enumerate(output_urls(job.output))
        ]
        remaining = eta(job, self._durations, at=at)
        error = NOT_STARTED if job.is_called_off else job.error
        return JobRead(
            id=job.id,
            model=job.model,
            status=job.state.status,
            input=job.input,
            output=None if job.output is None else _rewritten(job.output, iter(outputs)),
            error=None if error is None else JobErrorRead(**error),
            queue_position=job.queue_position,
            pending_position=None if job.place is None else job.place.position,
            eta_seconds=None if remaining is None else math.ceil(remaining.total_seconds()),
            created_at=job.created_at,
            submitted_at=job.submitted_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
            late=job.late is not None,
            cost=JobCostRead(
                amount_usd=None if job.price_usd is None else shown_usd(job.price_usd),
                output_seconds=job.output_seconds,
                # A job that was charged late is paid for, though its hold was released.
                state="settled" if job.late == "charged" else job.cost_state,
            ),
            metadata=job.metadata,
            urls=JobUrlsRead(
                self=f"{self._jobs_url}/{job.id}",
                events=f"{self._jobs_url}/{job.id}/events",
                cancel=f"{self._jobs_url}/{job.id}/cancel",
                outputs=outputs,
            ),
        )

    def request_url(self, job_id: str, call: str) -> str:
        """Return the address of one of RunComfy's calls on a job."""
        return f"{self._base_url}/requests/{job_id}/{call}"

    def etag(self, job: Job, *, at: datetime) -> str:
        """Cover what changes: the event number and, once there are outputs, the signing hour."""
        hour = f"-{int(at.timestamp()) // 3600}" if job.output else ""
        return f'"{job.event_seq}{hour}"'

    def output_is_signed(
        self, job_id: str, n: int, name: str | None, *, expires: int, signature: str, at: datetime
    ) -> bool:
        subject = _signed_part(job_id, n, name)
        return self._signer.admits(subject, expires=expires, signature=signature, at=at)

    def _output_url(self, job_id: str, n: int, name: str | None, *, at: datetime) -> str:
        # Whole hours, so that a page that asks again can reuse the video in the browser's cache.
        expires = (int(at.timestamp()) // 3600 + 1) * 3600 + int(_SIGNED_FOR.total_seconds())
        query = self._signer.query(_signed_part(job_id, n, name), expires=expires)
        # The name comes last: some clients tell a file by how its address ends.
        ending = "" if name is None else f"&name={name}"
        return f"{self._jobs_url}/{job_id}/outputs/{n}?{query}{ending}"


def _signed_part(job_id: str, n: int, name: str | None) -> str:
    return f"{job_id}/{n}" if name is None else f"{job_id}/{n}/{name}"


def _name(n: int, url: str) -> str | None:
    """Name an output with the ending of RunComfy's own `url`, if that is one of a media file."""
    media_type = type_by_name(url)
    return None if media_type == UNKNOWN else f"{n}{suffix_of(media_type)}"


def _rewritten(output: Output, urls: Iterator[str]) -> Output:
    rewritten: Output = {}
    for key in OUTPUT_KEYS:
        value = output.get(key)
        if isinstance(value, str):
            rewritten[key] = next(urls)
        elif value is not None:
            rewritten[key] = [next(urls) for _ in value]
    return rewritten
