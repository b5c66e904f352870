"""What bodies and answers of the admin API have in common."""

from datetime import datetime
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from app.api.problems import problem_responses
from app.auth.errors import TooManyAttemptsError, WrongAdminTokenError
from app.core.errors import DatabaseUnavailableError, NotFoundError
from app.core.timestamps import from_rfc3339
from app.quotas.limits import shown_limits
from app.quotas.policy import LimitName, Mode

ALWAYS = problem_responses(
    WrongAdminTokenError, NotFoundError, TooManyAttemptsError, DatabaseUnavailableError
)


class AdminBody(BaseModel):
    """A body that an operator sends; `limits` are checked by the room that understands them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    def changes(self, *, without: str = "") -> Any:
        """Return the fields that were sent, except the one that names what to change."""
        return self.model_dump(exclude={without}, exclude_unset=True)


class AdminRead(BaseModel):
    """An answer to an operator, validated from a record with the same field names."""

    model_config = ConfigDict(from_attributes=True)


class LimitRuleRead(BaseModel):
    limit: int | float | str
    mode: Mode


LimitsRead = Annotated[dict[str, LimitRuleRead], BeforeValidator(shown_limits)]


_LIMITS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        name.value: {
            "type": ["object", "null"],
            "required": ["limit"],
            "additionalProperties": False,
            "properties": {
                "limit": {
                    "type": ["string", "number"] if "usd" in name else "number",
                    "minimum": 0,
                },
                "mode": {
                    "anyOf": [{"title": "Mode", "enum": list(get_args(Mode))}, {"type": "null"}],
                    "default": "enforce",
                },
            },
        }
        for name in LimitName
    },
}

LimitsBody = Annotated[
    dict[str, Any],
    Field(
        description="By name; null removes the limit of that name, absent ones stay as they are.",
        json_schema_extra={**_LIMITS_SCHEMA, "example": {"jobs_per_day": {"limit": 10}}},
    ),
]


def instant(value: Any) -> datetime | None:
    """Read an RFC 3339 time with a zone, for a field that may be null."""
    at = from_rfc3339(value)
    if at is None and value is not None:
        raise PydanticCustomError(
            "time", "it must be an RFC 3339 time with a zone, like 2026-11-22T10:00:00Z"
        )
    return at
