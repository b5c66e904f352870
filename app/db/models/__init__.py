"""All tables, so that one import knows the whole schema."""

from app.db.models.api_key import ApiKeyRow
from app.db.models.audit import AuditRow
from app.db.models.base import Base
from app.db.models.catalogue import CatalogueModelRow, CatalogueRow
from app.db.models.client_token import ClientTokenRow
from app.db.models.duration import DurationRow
from app.db.models.file import DiscardRow, FilePartRow, FileRow, JobFileRow, OutputRow
from app.db.models.heartbeat import HeartbeatRow
from app.db.models.job import IdempotencyKeyRow, JobEventRow, JobRow
from app.db.models.lane import LaneRow, SwitchRow
from app.db.models.plan import PlanRow
from app.db.models.quota import AccountRow, LedgerRow, PriceRow, ShadowFindingRow
from app.db.models.schema import SchemaReleaseRow
from app.db.models.user import UserRow
from app.db.models.webhook import (
    WebhookAttemptRow,
    WebhookDeliveryRow,
    WebhookEndpointRow,
    WebhookSecretRow,
)

__all__ = [
    "AccountRow",
    "ApiKeyRow",
    "AuditRow",
    "Base",
    "CatalogueModelRow",
    "CatalogueRow",
    "ClientTokenRow",
    "DiscardRow",
    "DurationRow",
    "FilePartRow",
    "FileRow",
    "HeartbeatRow",
    "IdempotencyKeyRow",
    "JobEventRow",
    "JobFileRow",
    "JobRow",
    "LaneRow",
    "LedgerRow",
    "OutputRow",
    "PlanRow",
    "PriceRow",
    "SchemaReleaseRow",
    "ShadowFindingRow",
    "SwitchRow",
    "UserRow",
    "WebhookAttemptRow",
    "WebhookDeliveryRow",
    "WebhookEndpointRow",
    "WebhookSecretRow",
]
