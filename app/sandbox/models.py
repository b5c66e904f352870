"""The catalogue calls: search, categories, one model."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.sandbox.catalogue import Catalogue
from app.sandbox.refusals import Refusal

_MOST = 500


class ModelCalls:
    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    async def search(self, request: Request) -> Response:
        query = request.query_params
        limit = _whole(request, "limit", default=100, low=1, high=_MOST)
        offset = _whole(request, "offset", default=0, low=0, high=1_000_000)
        found = self._catalogue.search(
            text=query.get("search", ""),
            category=query.get("category", ""),
            kind=query.get("kind", ""),
        )
        with_schema = query.get("include_schema", "").lower() in {"true", "1"}
        page = [model.entry(with_schema=with_schema) for model in found[offset : offset + limit]]
        return JSONResponse({"models": page, "total": len(found), "limit": limit, "offset": offset})

    async def categories(self, _: Request) -> Response:
        return JSONResponse({"categories": self._catalogue.categories()})

    async def one(self, request: Request) -> Response:
        model_id = request.path_params["model_id"]
        model = self._catalogue.find(model_id)
        if model is None:
            raise Refusal(400001, f"there is no model {model_id!r}")
        return JSONResponse(model.entry(with_schema=True))


def _whole(request: Request, name: str, *, default: int, low: int, high: int) -> int:
    given = request.query_params.get(name, str(default))
    if given.isdecimal() and low <= int(given) <= high:
        return int(given)
    rule = f"Input should be a whole number from {low} to {high}"
    detail = [{"loc": ["query", name], "msg": rule, "type": "int_range"}]
    raise Refusal(422001, detail=detail)
