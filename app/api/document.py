"""GET /openapi.json: the document that `gateway openapi` wrote; building it takes a second."""

from app.api.routing import Router
from app.api.whole_files import WholeFile
from app.core import bundled

router = Router(include_in_schema=False)


@router.head("/openapi.json")
@router.get("/openapi.json")
async def document() -> WholeFile:
    return WholeFile(bundled.document())
