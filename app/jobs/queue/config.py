"""How many jobs may be at RunComfy, for how long, and how often it is polled; for all replicas."""

from datetime import timedelta

from pydantic import BaseModel, ConfigDict

from app.jobs.models import CostState
from app.jobs.timing.schedule import ScheduleConfig


class QueueConfig(BaseModel):
    """One sweep moves at most `swept_at_once` jobs, since the statements after it list them all."""

    model_config = ConfigDict(frozen=True)

    max_in_flight: int = 100
    polls_per_second: int = 50
    schedule: ScheduleConfig = ScheduleConfig()
    lease: timedelta = timedelta(seconds=30)
    job_timeout: timedelta = timedelta(hours=1)
    late_watch: timedelta = timedelta(hours=24)
    unknown_life: timedelta = timedelta(hours=24)
    unknown_ends: CostState = "settled"
    swept_at_once: int = 500
    archives: bool = False
