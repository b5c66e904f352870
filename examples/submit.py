"""Make a video from a picture: GATEWAY_KEY=rcg_... python submit.py PICTURE_URL [PROMPT].

Needs httpx. GATEWAY_URL is the gateway's address; default: http://localhost:8000.
"""

import os
import sys
import time
import uuid
from pathlib import Path

import httpx

MODEL = "bytedance/seedance-1-0/pro/image-to-video"


def main(picture: str, prompt: str = "the camera drifts forward") -> None:
    gateway = httpx.Client(
        base_url=os.environ.get("GATEWAY_URL", "http://localhost:8000"),
        headers={"Authorization": f"Bearer {os.environ['GATEWAY_KEY']}"},
        timeout=30,
    )
    # If the answer is lost, repeat it: the same key and body give the same job, never a second one.
    answer = gateway.post(
        "/v1/jobs",
        headers={"Idempotency-Key": str(uuid.uuid4())},
        json={
            "model": MODEL,
            "input": {"prompt": prompt, "first_frame_image_url": picture, "duration": 2},
        },
    )
    job = read(answer)
    while job["finished_at"] is None:
        print(job["id"], job["status"], flush=True)
        time.sleep(0.5)
        job = read(gateway.get(f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=20"}))
    if job["status"] != "completed":
        sys.exit(f"The job ended as {job['status']}: {job['error']}")
    film = Path(f"{job['id']}.mp4")
    film.write_bytes(httpx.get(job["output"]["video"], timeout=30).raise_for_status().content)
    print(film)


def read(answer: httpx.Response) -> dict:
    """Return the job, or exit with what is wrong: every refusal names the field and the way out."""
    body = answer.json()
    if answer.is_error:
        sys.exit(" ".join(error["detail"] for error in body.get("errors", [])) or body["detail"])
    return body


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(__doc__)
    main(*sys.argv[1:])
