"""The bodies of RunComfy's answers, as pure functions of a record, its script and the time."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, assert_never

from app.core.timestamps import rfc3339
from app.sandbox import outputs
from app.sandbox.catalogue import Model
from app.sandbox.records import Record, Stage
from app.sandbox.scenarios import Script

_REASON = "The sandbox was asked to fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """One request seen at one instant; `base` starts every link."""

    record: Record
    script: Script
    model: Model
    now: datetime
    base: str
    speed: float

    @property
    def expired(self) -> bool:
        return self._reached("expired", self.record.age(self.now))

    @property
    def stage(self) -> Stage:
        return self.record.stage_at(self.now, script=self.script, speed=self.speed)

    def submit(self) -> dict[str, Any]:
        links = self._links()
        return {"request_id": self.record.request_id, **links, "cancel_url": self._link("cancel")}

    def status(self) -> dict[str, Any]:
        body: dict[str, Any] = {"request_id": self.record.request_id, "status": self._status_word()}
        if self.stage is Stage.IN_QUEUE and "no-position" not in self.script:
            front = int(self.script.number("position-base", 0))
            body["queue_position"] = front + self.record.jobs_ahead(self.now)
        return body | self._links()

    def result(self, *, include_cost: bool) -> dict[str, Any]:
        body: dict[str, Any] = {
            "request_id": self.record.request_id,
            "status": self._result_word(),
            "created_at": rfc3339(self.record.created_at),
        }
        if "echo-input" in self.script:
            body["input"] = self.record.input
        if self.stage.is_final:
            body["finished_at"] = rfc3339(self.record.finished_at(self.stage))
        if self.stage is Stage.SUCCEEDED:
            body |= outputs.output_part(self.model.output_kind, self.script, self._output_urls())
        if self.stage is Stage.FAILED:
            body |= _failure(self.script.text("fail", "object"))
        return body | (self._cost() if include_cost else {})

    def cancel(self, *, granted: bool) -> dict[str, Any]:
        word = self._word("cancelled-word", "cancelled") if granted else self._status_word()
        body = {
            "request_id": self.record.request_id,
            "status": self.script.text("cancel-status", word),
        }
        outcome = self.script.text("cancel-outcome", "cancelled") if granted else "not_cancellable"
        return body if outcome == "none" else body | {"outcome": outcome}

    def _status_word(self) -> str:
        match self.stage:
            case Stage.IN_QUEUE:
                return self._word("queued-word", "in_queue")
            case Stage.IN_PROGRESS:
                return self._word("running-word", "in_progress")
            case Stage.SUCCEEDED | Stage.FAILED:
                return self._word("status-word", "completed")
            case Stage.CANCELLED:
                return self._word("cancelled-word", "cancelled")
            case _ as never:
                assert_never(never)

    def _result_word(self) -> str:
        match self.stage:
            case Stage.SUCCEEDED:
                return self._word("result-word", "succeeded")
            case Stage.FAILED:
                return self._word("fail-word", "failed")
            case _:
                return self._status_word()

    def _word(self, name: str, usual: str) -> str:
        word = self.script.text(name, usual)
        return _LETTERS[self.script.text("letters", "lower")](word)

    def _output_urls(self) -> list[str]:
        return [f"{self.base}/outputs/{self.record.request_id}/{name}" for name in self._files()]

    def _files(self) -> list[str]:
        return outputs.files(self.model.output_kind, self.script, self.record.input)

    def _cost(self) -> dict[str, float]:
        if "no-cost" in self.script or not self.stage.is_final:
            return {}
        since_end = (self.now - self.record.finished_at(self.stage)).total_seconds()
        if "late-cost" in self.script and not self._reached("late-cost", since_end):
            return {}
        return {"cost": self.script.number("cost", self._list_price())}

    def _list_price(self) -> float:
        if self.stage is not Stage.SUCCEEDED:
            return 0.0
        per_second = self.model.unit == "second"
        units = outputs.seconds_of(self.record.input) if per_second else len(self._files())
        return round(self.model.price * units, 4)

    def _reached(self, word: str, elapsed: float) -> bool:
        """Return whether the script has the word and its seconds have passed."""
        return elapsed >= self.script.number(word, float("inf")) / self.speed

    def _links(self) -> dict[str, str]:
        return {"status_url": self._link("status"), "result_url": self._link("result")}

    def _link(self, call: str) -> str:
        return f"{self.base}/v1/requests/{self.record.request_id}/{call}"


_LETTERS: dict[str, Callable[[str], str]] = {
    "lower": lambda word: word,
    "upper": str.upper,
    "title": str.title,
}


def _failure(form: str) -> dict[str, Any]:
    match form:
        case "string":
            return {"error": _REASON}
        case "list":
            return {"error": [{"type": "SandboxError", "message": _REASON}]}
        case "none":
            return {}
        case _:
            return {"error": {"type": "SandboxError", "message": _REASON}}
