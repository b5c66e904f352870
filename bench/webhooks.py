"""How long after a job's end its webhook is sent, and how many a process sends per second.

    python bench/webhooks.py            # whole jobs through gateway and sandbox, in processes
    python bench/webhooks.py --jobs 200

The latency is that of the first attempt: from `timestamp`, when the change was written, to the
message's arrival at a receiver on this machine, by the same clock.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from tests.support.gateway import SEEDANCE
from tests.support.processes import gateway_process, run, sandbox_process


async def main(jobs: int) -> None:
    waits: list[float] = []
    arrived = asyncio.Event()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.partition(b":")[2])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        )
        payload = json.loads(await reader.readexactly(length))
        began = datetime.fromisoformat(payload["timestamp"])
        waits.append((datetime.now(UTC) - began).total_seconds())  # noqa: TID251
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        if len(waits) == jobs:
            arrived.set()

    receiver = await asyncio.start_server(receive, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{receiver.sockets[0].getsockname()[1]}/"
    with tempfile.TemporaryDirectory() as folder:
        async with (
            sandbox_process(Path(folder) / "sandbox", speed=50) as sandbox,
            gateway_process(Path(folder) / "gateway", upstream_url=sandbox.url) as gateway,
        ):
            await asyncio.gather(sandbox.ready(), gateway.ready())
            await gateway.stop()
            gateway.environment["GATEWAY_WEBHOOK_NETWORKS"] = "127.0.0.0/8"
            gateway.environment["GATEWAY_INSPECT_MEDIA"] = "off"
            await gateway.start()
            await gateway.ready()
            _, key, _ = await run(gateway, "keys", "create", "--user", "bench")
            async with httpx.AsyncClient(
                base_url=gateway.url, headers={"Authorization": f"Bearer {key.strip()}"}, timeout=60
            ) as http:
                answer = await http.post("/v1/webhook-endpoints", json={"url": url})
                answer.raise_for_status()
                began = asyncio.get_running_loop().time()
                for first in range(0, jobs, 20):
                    some = min(20, jobs - first)
                    await asyncio.gather(*(_submit(http) for _ in range(some)))
                async with asyncio.timeout(300):
                    await arrived.wait()
                seconds = asyncio.get_running_loop().time() - began
    receiver.close()
    waits.sort()
    print(f"{jobs} jobs, all told within {seconds:.1f} s of the first submit")
    print(
        f"first attempt after the change: p50 {statistics.median(waits) * 1000:.0f} ms,"
        f" p99 {waits[int(len(waits) * 0.99) - 1] * 1000:.0f} ms, most {waits[-1] * 1000:.0f} ms"
    )


async def _submit(http: httpx.AsyncClient) -> None:
    body: dict[str, Any] = {
        "model": SEEDANCE,
        "input": {
            "prompt": "sandbox:instant",
            "first_frame_image_url": "https://example.com/a.png",
        },
    }
    (await http.post("/v1/jobs", json=body)).raise_for_status()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100)
    asyncio.run(main(parser.parse_args().jobs))
