"""Rules for what operators ask for; one answer names every rule that is broken."""

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import cache
from itertools import islice
from typing import Any
from zoneinfo import available_timezones

from app.auth.directory.repository import DirectoryRepository
from app.auth.errors import InvalidUserIdError
from app.auth.models import checked_user_id
from app.auth.scopes import Scope
from app.core.errors import BROKEN_BODY, MAX_ERRORS, FieldError, InvalidRequestError
from app.core.suggestions import did_you_mean
from app.quotas.limits import LimitChanges, checked_limits

_PLAN_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ANY_USER_ID = re.compile(r"[A-Za-z0-9._@:-]{1,128}(?:/[A-Za-z0-9._@:-]{1,1000})?")


def is_plan_name(text: str) -> bool:
    return _PLAN_NAME.fullmatch(text) is not None


def could_be_user_id(text: str) -> bool:
    """Return whether any user can have this id; if not, a look-up is pointless."""
    return _ANY_USER_ID.fullmatch(text) is not None


class Faults:
    """Collects broken rules, so that one answer can name them all."""

    def __init__(self) -> None:
        self._errors: list[FieldError] = []

    def add(self, pointer: str, code: str, flaw: str) -> None:
        self._errors.append(FieldError(pointer=pointer, code=code, detail=f"{pointer} {flaw}."))

    def raise_any(self) -> None:
        if self._errors:
            raise InvalidRequestError(f"{BROKEN_BODY} Nothing was changed.", errors=self._errors)

    def plan_name(self, name: str) -> None:
        if not is_plan_name(name):
            self.add("/name", "pattern", "must be 1 to 64 letters, digits and . _ -")

    def user_id(self, user_id: str) -> None:
        try:
            checked_user_id(user_id)
        except InvalidUserIdError as exc:
            self._errors.append(FieldError(pointer="/id", code=exc.code, detail=exc.detail))

    def timezone(self, name: str) -> None:
        if name not in _zones():
            self.add(
                "/timezone",
                "unknown_timezone",
                f"is not a time zone of the IANA list{did_you_mean(name, _zones())}",
            )

    def limits(self, given: Mapping[str, Any]) -> LimitChanges:
        limits, errors = checked_limits(given)
        self._errors += errors
        return limits

    def models(
        self, given: Sequence[str] | None, *, known: Collection[str]
    ) -> tuple[str, ...] | None:
        if given is None:
            return None
        unknown = ((n, model) for n, model in enumerate(given) if model not in known)
        # Limited here: finding what a name may have meant takes milliseconds.
        for index, model in islice(unknown, MAX_ERRORS):
            self.add(
                f"/models/{index}",
                "unknown_model",
                f"is not a model of this gateway{did_you_mean(model, known)}",
            )
        return tuple(dict.fromkeys(given))

    def scopes(self, given: Sequence[str]) -> tuple[str, ...]:
        known = [scope.value for scope in Scope]
        if not given:
            self.add("/scopes", "min_items", f"must name at least one of {', '.join(known)}")
        for index, scope in enumerate(given):
            if scope not in known:
                self.add(
                    f"/scopes/{index}",
                    "unknown_scope",
                    f"is not a scope{did_you_mean(scope, known)}; known are {', '.join(known)}",
                )
        return tuple(dict.fromkeys(given))

    def expiry(self, expires_at: datetime | None, *, at: datetime) -> None:
        if expires_at is not None and expires_at <= at:
            self.add("/expires_at", "in_the_past", "must be in the future")


async def check_plan(repository: DirectoryRepository, faults: Faults, name: str) -> None:
    known = await repository.plan_names()
    if name not in known:
        faults.add(
            "/plan", "unknown_plan", f"is not a plan of this gateway{did_you_mean(name, known)}"
        )


@cache
def _zones() -> frozenset[str]:
    # Local time differs from machine to machine.
    return frozenset(available_timezones() - {"localtime"})
