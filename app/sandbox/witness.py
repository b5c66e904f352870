"""What the sandbox saw, for tests and for the curious."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.sandbox.store import Store


class Witness:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def requests(self, _: Request) -> Response:
        """List every submit received, accepted or not, and count the calls on each request."""
        received = [
            {
                "request_id": receipt.request_id,
                "model_id": receipt.model_id,
                "input": receipt.input,
                "headers": receipt.headers,
                "received_at": receipt.received_at.isoformat(),
                "accepted": receipt.request_id is not None,
            }
            for receipt in self._store.receipts()
        ]
        calls = {
            record.request_id: {
                "status": record.status_calls,
                "result": record.result_calls,
                "cancel": record.cancel_calls,
            }
            for record in self._store.records()
        }
        return JSONResponse({"requests": received, "calls": calls})
