"""The whole way of a job, as its owner sees it."""

from tests.support.gateway import PUBLIC_URL, SEEDANCE, Gateway


async def test_a_picture_becomes_a_video(gateway: Gateway) -> None:
    body = gateway.body(resolution="480p", ratio="16:9")
    submitted = await gateway.http.post("/v1/jobs", json=body | {"metadata": {"order": "4711"}})
    job = submitted.json()
    assert submitted.status_code == 202
    assert submitted.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert job == {
        "id": job["id"],
        "object": "job",
        "model": SEEDANCE,
        "status": "pending",
        "input": body["input"],
        "output": None,
        "error": None,
        "queue_position": None,
        "pending_position": 1,
        "eta_seconds": 51,
        "created_at": "2026-11-22T10:00:00.000Z",
        "submitted_at": None,
        "started_at": None,
        "finished_at": None,
        "late": False,
        "cost": {"amount_usd": None, "output_seconds": 2, "state": "held"},
        "metadata": {"order": "4711"},
        "urls": {
            "self": f"{PUBLIC_URL}/v1/jobs/{job['id']}",
            "events": f"{PUBLIC_URL}/v1/jobs/{job['id']}/events",
            "cancel": f"{PUBLIC_URL}/v1/jobs/{job['id']}/cancel",
            "outputs": [],
        },
    }

    assert await gateway.dispatch() == 1
    assert (await gateway.read(job))["status"] == "in_queue"

    done = await gateway.follow(job)
    assert done["status"] == "completed"
    assert done["output"] == {"video": done["urls"]["outputs"][0]}
    assert done["submitted_at"] < done["started_at"] < done["finished_at"]

    video = await gateway.http.get(done["output"]["video"])
    assert video.status_code == 200
    assert video.headers["Content-Type"] == "video/mp4"
    assert video.content[4:8] == b"ftyp"
