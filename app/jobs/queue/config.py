"""What may be at RunComfy, for how long, and how often it is asked: for all replicas together."""

from datetime import timedelta

from pydantic import BaseModel, ConfigDict

from app.jobs.models import CostState
from app.jobs.timing.schedule import ScheduleConfig


class QueueConfig(BaseModel):
    """At most `swept_at_once` jobs move in one statement, since later ones name each of them."""

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
