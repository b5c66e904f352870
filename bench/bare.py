"""What FastAPI costs by itself: a route that reads nothing, and one that forwards a request."""

import os
from typing import Any

import httpx
from fastapi import FastAPI, Request, Response

UPSTREAM = os.environ["BENCH_UPSTREAM"]
JOB = {"id": "job_0", "object": "job", "status": "pending", "input": {"prompt": "x" * 60}}

app = FastAPI()
client = httpx.AsyncClient(limits=httpx.Limits(max_connections=100, max_keepalive_connections=100))


@app.get("/v1/jobs/{job_id}")
async def read(job_id: str) -> dict[str, Any]:
    return JOB | {"id": job_id}


@app.post("/v1/models/{model_id:path}")
async def submit(model_id: str, request: Request) -> Response:
    answer = await client.post(
        f"{UPSTREAM}/v1/models/{model_id}",
        content=await request.body(),
        headers={"Authorization": "Bearer upstream", "Content-Type": "application/json"},
    )
    return Response(answer.content, answer.status_code, media_type="application/json")
