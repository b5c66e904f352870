"""`gateway demo --keep`: a gateway with a day behind it, which goes without a trace."""

import asyncio
import os
import re
import signal
from pathlib import Path

import httpx
import pytest

from tests.support.processes import COMMAND

STARTS_WITHIN_S = 500  # on a machine that is busy with other tests


@pytest.mark.timeout(600)
async def test_the_demo_stands_until_ctrl_c_and_leaves_nothing(tmp_path: Path) -> None:
    settings = {name: text for name, text in os.environ.items() if "GATEWAY_" not in name}
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *("demo", "--keep"),
        cwd=tmp_path,
        env=settings | {"TMPDIR": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(STARTS_WITHIN_S):
            said = (await process.stdout.readuntil(b"leaves nothing.\n")).decode()
        told = dict(re.findall(r"^  (Playground|Key|Console|Token) +(\S+)$", said, re.MULTILINE))
        async with httpx.AsyncClient(timeout=30) as http:
            for page in ("Playground", "Console"):
                assert (await http.get(told[page])).status_code == 200
            http.base_url = httpx.URL(told["Playground"])

            http.headers["Authorization"] = f"Bearer {told['Token']}"
            found = (await http.get("/v1/admin/invariants")).json()
            assert found == {"ok": True, "violations": []}
            jobs = (await http.get("/v1/admin/jobs?limit=100")).json()["data"]
            assert {job["status"] for job in jobs} >= {
                *("completed", "failed", "cancelled"),
                *("pending", "in_queue", "in_progress", "submit_unknown"),
            }
            assert len({job["user"] for job in jobs}) > 3
            assert len({job["model"] for job in jobs}) > 3
            assert len({job["created_at"][:13] for job in jobs}) > 10

            # No view of the console is empty.
            for path, field, values in (
                ("deliveries?limit=100", "state", {"delivered", "pending", "failed"}),
                ("outputs?at_risk=true", "n", {0}),
                ("shadow-findings?limit=100", "user", {"shop"}),
                ("audit?limit=100", "action", {"job.settle", "key.rotated", "dispatch.pause"}),
                ("plans", "name", {"free", "studio", "service"}),
            ):
                rows = (await http.get(f"/v1/admin/{path}")).json()["data"]
                assert {row[field] for row in rows} >= values, path
            assert (await http.get("/v1/admin/prices")).json()["prices"]

            http.headers["Authorization"] = f"Bearer {told['Key']}"
            assert (await http.get("/v1/me")).json()["plan"] == "studio"
            [made] = (await http.get("/v1/jobs?status=completed&limit=1")).json()["data"]
            film = await http.get(made["urls"]["outputs"][0])
            assert film.status_code == 200
            assert len(film.content) > 1000
    finally:
        process.send_signal(signal.SIGINT)
        rest, _ = await process.communicate()
    assert (process.returncode, rest) == (0, b"")
    assert left_in(tmp_path) == []


def left_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())
