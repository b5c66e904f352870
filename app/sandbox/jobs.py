"""The job calls: submit, status, result and cancel, each with the faults its script asks for."""

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.core.clock import Clock
from app.core.ids import new_id
from app.sandbox.answers import Answers
from app.sandbox.catalogue import Catalogue, Model
from app.sandbox.config import SandboxConfig
from app.sandbox.faults import Reset, broken
from app.sandbox.inspection import complaints
from app.sandbox.records import Receipt, Record, Stage, draw_times
from app.sandbox.refusals import Refusal
from app.sandbox.scenarios import Script, UnknownWordError, read_script
from app.sandbox.store import CountedCall, Store

_MOST_BYTES = 64 * 1024 * 1024
_CUT = b"sandbox:cut-request"
_LONG_ID = 128


class JobCalls:
    def __init__(
        self, *, config: SandboxConfig, store: Store, catalogue: Catalogue, clock: Clock
    ) -> None:
        self._config = config
        self._store = store
        self._catalogue = catalogue
        self._clock = clock

    async def submit(self, request: Request) -> Response:
        """Commit first, answer second; every submit is recorded, whatever comes of it."""
        receipt = Receipt(
            received_at=self._clock.now(),
            model_id=request.path_params["model_id"],
            input=None,
            headers=sorted(set(request.headers.keys())),
        )
        try:
            body = await _read(request)
            if body is None:
                self._store.receive(receipt)
                return Reset()
            receipt = replace(receipt, input=_parse(request, body))
            model, script = self._check(receipt)
        except Refusal:
            self._store.receive(receipt)
            raise
        return self._accept(receipt, model, script, base=_base(request))

    async def status(self, request: Request) -> Response:
        answers = self._answers(request, "status")
        return self._polled(answers, answers.status())

    async def result(self, request: Request) -> Response:
        answers = self._answers(request, "result")
        wanted = request.query_params.get("include_cost", "").lower()
        proper = answers.result(include_cost=wanted in {"true", "1"})
        if fault := answers.script.fault_at("result", answers.record.result_calls):
            return self._broken(fault, proper, answers.script)
        return self._polled(answers, proper)

    async def cancel(self, request: Request) -> Response:
        answers = self._answers(request, "cancel")
        granted = answers.stage is Stage.IN_QUEUE
        proper = answers.cancel(granted=granted)
        script, nth = answers.script, answers.record.cancel_calls
        if fault := script.fault_at("cancel", nth):
            return self._broken(fault, proper, script)
        if granted and "cancel-ignored" not in script:
            lag = timedelta(seconds=script.number("cancel-lag", 0) / self._config.speed)
            self._store.cancel(answers.record.request_id, at=answers.now + lag)
        if "lost-cancel" in script and nth == 1:
            return self._broken(script.text("lost-cancel", ""), proper, script)
        return JSONResponse(proper, 202)

    def _check(self, receipt: Receipt) -> tuple[Model, Script]:
        model = self._catalogue.find(receipt.model_id)
        if model is None:
            raise Refusal(400001, f"there is no model {receipt.model_id!r}")
        if not isinstance(receipt.input, dict):
            raise Refusal(422001, "the body must be one JSON object: the model's input")
        try:
            script = read_script(receipt.input)
        except UnknownWordError as error:
            detail = [{"loc": ["body"], "msg": str(error), "type": "magic_word"}]
            raise Refusal(422001, str(error), detail=detail) from error
        if detail := complaints(model.input_schema, receipt.input):
            raise Refusal(422001, detail=detail, script=script)
        return model, script

    def _accept(self, receipt: Receipt, model: Model, script: Script, *, base: str) -> Response:
        record = self._new_record(receipt, script)
        proper = self._seen(record, base=base).submit()
        if fault := self._submit_fault(receipt, script):
            self._store.receive(receipt)
            return self._broken(fault, proper, script)
        self._store.receive(receipt, accepted=record)
        if "lost-answer" in script:
            return self._broken(script.text("lost-answer", ""), proper, script)
        return JSONResponse(proper)

    def _submit_fault(self, receipt: Receipt, script: Script) -> str | None:
        if script.fault_at("submit", 1) is None:
            return None
        earlier = self._store.times_received(receipt.model_id, receipt.input)
        return script.fault_at("submit", earlier + 1)

    def _new_record(self, receipt: Receipt, script: Script) -> Record:
        # Drawn by count, not by id: ids are random, so as never to repeat an older sandbox's.
        draw = random.Random(f"{self._config.seed}:{self._store.accepted()}")  # noqa: S311
        queue, progress = draw_times(script, draw=draw, speed=self._config.speed)
        request_id = new_id("req")
        return Record(
            request_id=request_id.ljust(_LONG_ID, "x") if "long-id" in script else request_id,
            model_id=receipt.model_id,
            input=receipt.input,
            created_at=receipt.received_at,
            queue=queue,
            progress=progress,
        )

    def _answers(self, request: Request, call: CountedCall) -> Answers:
        """Count the call and look at its request; refuse an unknown or expired one."""
        record = self._store.count(call, request.path_params["request_id"])
        if record is None:
            raise Refusal(404001)
        answers = self._seen(record, base=_base(request))
        if answers.expired:
            raise Refusal(404001, script=answers.script)
        return answers

    def _seen(self, record: Record, *, base: str) -> Answers:
        model = self._catalogue.find(record.model_id)
        if model is None:
            raise Refusal(404001, "the model of this request is gone")
        return Answers(
            record=record,
            script=read_script(record.input),
            model=model,
            now=self._clock.now(),
            base=base,
            speed=self._config.speed,
        )

    def _polled(self, answers: Answers, proper: dict[str, Any]) -> Response:
        calls = answers.record.status_calls + answers.record.result_calls
        if fault := answers.script.fault_at("poll", calls):
            return self._broken(fault, proper, answers.script)
        return JSONResponse(proper)

    def _broken(self, fault: str, proper: Mapping[str, Any], script: Script) -> Response:
        return broken(fault, proper=proper, script=script, now=self._clock.now())


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/")


async def _read(request: Request) -> bytes | None:
    """Read the body; None once it has asked for the connection to be cut."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if _CUT in body[-len(chunk) - len(_CUT) :]:
            return None
        if len(body) > _MOST_BYTES:
            raise Refusal(413000)
    return bytes(body)


def _parse(request: Request, body: bytes) -> Any:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Refusal(400001, "the Content-Type must be application/json")
    try:
        given = json.loads(body, parse_constant=_refuse_constant)
        json.dumps(given, ensure_ascii=False).encode()  # a lone surrogate is not text
    except (ValueError, RecursionError) as error:
        raise Refusal(400001, f"the body is not JSON: {error}") from error
    return given


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")
