"""The files that anybody may fetch without a token: outputs and the sample picture."""

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from app.core.clock import Clock
from app.sandbox import outputs
from app.sandbox.catalogue import Catalogue
from app.sandbox.records import Record, Stage
from app.sandbox.refusals import Refusal
from app.sandbox.scenarios import read_script
from app.sandbox.store import Store
from app.sandbox.studio import Studio


class FileCalls:
    def __init__(
        self, *, store: Store, catalogue: Catalogue, studio: Studio, clock: Clock, speed: float
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._studio = studio
        self._clock = clock
        self._speed = speed

    async def output(self, request: Request) -> Response:
        """Send one file of a success, made now if this is the first time anybody asks."""
        record = self._store.find(request.path_params["request_id"])
        name = request.path_params["name"]
        if record is None or name not in self._ready(record):
            raise Refusal(404000)
        away = read_script(record.input).number("output-503", 0) / self._speed
        if record.since_end(self._clock.now()) < away:
            raise Refusal(503000)
        path = await self._studio.output(record, name, has_left=request.is_disconnected)
        return Response() if path is None else FileResponse(path)  # nobody reads the former

    async def sample(self, _: Request) -> Response:
        return FileResponse(await self._studio.sample())

    def _ready(self, record: Record) -> list[str]:
        """Return the files that are available at this instant."""
        script = read_script(record.input)
        now = self._clock.now()
        model = self._catalogue.find(record.model_id)
        stage = record.stage_at(now, script=script, speed=self._speed)
        gone = record.since_end(now) >= script.number("output-gone", float("inf")) / self._speed
        if model is None or gone or stage is not Stage.SUCCEEDED:
            return []
        return outputs.files(model.output_kind, script, record.input)
