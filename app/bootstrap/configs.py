"""Translates the settings into the config of each room."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from app.jobs.models import CostState
from app.jobs.queue.config import QueueConfig
from app.media.inspector import InspectorConfig
from app.net.reach import Reach
from app.settings import Settings
from app.storage.uploads import UploadsConfig
from app.webhooks.queue import DeliveryQueueConfig
from app.worker.archiver import ArchiverConfig
from app.worker.deliverer import DelivererConfig
from app.worker.dispatcher import DispatcherConfig
from app.worker.poller import PollerConfig

_UNKNOWN_ENDS: Mapping[str, CostState] = {"settle": "settled", "release": "released"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Configs:
    queue: QueueConfig
    dispatcher: DispatcherConfig
    poller: PollerConfig
    deliveries: DeliveryQueueConfig
    deliverer: DelivererConfig
    uploads: UploadsConfig
    archiver: ArchiverConfig
    inspector: InspectorConfig
    media_reach: Reach
    webhook_reach: Reach

    @classmethod
    def of(cls, settings: Settings) -> Self:
        lease = timedelta(seconds=settings.lease_seconds)
        deliverer = DelivererConfig()
        return cls(
            queue=QueueConfig(
                lease=lease,
                max_in_flight=settings.max_in_flight,
                polls_per_second=settings.polls_per_second,
                job_timeout=timedelta(seconds=settings.job_timeout_seconds),
                late_watch=timedelta(seconds=settings.late_watch_seconds),
                unknown_life=timedelta(hours=settings.submit_unknown_hours),
                unknown_ends=_UNKNOWN_ENDS[settings.submit_unknown_policy],
                archives=settings.archives,
            ),
            dispatcher=DispatcherConfig(lease=lease),
            poller=PollerConfig(
                timeout=min(lease / 3, timedelta(seconds=10)),
                charge_late=settings.late_success == "charge",
            ),
            deliveries=DeliveryQueueConfig(lease=max(lease, deliverer.timeout * 2)),
            deliverer=deliverer,
            uploads=UploadsConfig(life=timedelta(days=settings.file_days)),
            archiver=ArchiverConfig(lease=lease),
            inspector=InspectorConfig(mode=settings.inspect_media),
            media_reach=Reach(private=settings.allow_private_networks),
            webhook_reach=Reach(
                private=settings.allow_private_networks, networks=settings.webhook_networks
            ),
        )
