"""What may be at RunComfy, and how often it is asked: for all replicas together."""

from app.jobs.sweeps import SweepConfig
from app.jobs.timing.schedule import ScheduleConfig


class QueueConfig(SweepConfig):
    max_in_flight: int = 100
    polls_per_second: int = 50
    schedule: ScheduleConfig = ScheduleConfig()
    archives: bool = False
