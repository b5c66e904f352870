"""What the two pages weigh, how soon they are painted, and how a list of 100,000 jobs is paged.

    python -m bench.pages [--jobs 100000] [--runs 5]

A gateway on SQLite, Chromium on the same machine, and a new context (so an empty cache) each time.
The jobs are copies of three that were accepted, in a database that nothing else uses.
"""

import argparse
import asyncio
import sqlite3
import tempfile
import time
from pathlib import Path
from statistics import median

import httpx
from playwright.async_api import Browser

from app.core.ids import new_id
from app.server import running_gateway
from app.settings import explicit_settings
from tests.support.browser import running_browser
from tests.support.gateway import ADMIN_TOKEN, SEEDANCE

PAGES = ("/", "/console")
MEASURE = """() => {
  const kinds = ["navigation", "resource"];
  const loads = kinds.flatMap((kind) => performance.getEntriesByType(kind));
  const [paint] = performance.getEntriesByName("first-contentful-paint");
  return [paint.startTime, loads.reduce((sum, load) => sum + load.transferSize, 0)];
}"""


async def main(jobs: int, runs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = explicit_settings(
            upstream_url="sandbox",
            database_url=f"sqlite:///{folder}/gateway.db",
            admin_token=f"bench:{ADMIN_TOKEN}",
            inspect_media="off",
        )
        async with running_gateway(settings) as url, running_browser() as browser:
            print("| page | first contentful paint, median | most | transferred |")
            print("|---|---|---|---|")
            for path in PAGES:
                seen = [await load(browser, url + path) for _ in range(runs)]
                paints = [paint for paint, _ in seen]
                print(
                    f"| `{path}` | {median(paints):.0f} ms | {max(paints):.0f} ms"
                    f" | {seen[0][1] / 1000:.0f} kB |"
                )
            await fill(url, Path(folder) / "gateway.db", jobs)
            await lists(url, jobs)


async def load(browser: Browser, url: str) -> tuple[float, int]:
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(url, wait_until="networkidle")
    paint, transferred = await page.evaluate(MEASURE)
    await context.close()
    return paint, transferred


def client(url: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=60)


async def fill(url: str, database: Path, jobs: int) -> None:
    async with client(url) as admin:
        await admin.put("/v1/admin/dispatch", json={"paused": True})
        ids = []
        for user in ("alice", "bob", "carol"):
            await admin.post("/v1/admin/users", json={"id": user})
            made = await admin.post("/v1/admin/keys", json={"user": user, "name": "bench"})
            key = {"Authorization": f"Bearer {made.raise_for_status().json()['key']}"}
            picture = "https://example.com/a.png"
            given = {"prompt": "a", "first_frame_image_url": picture, "duration": 5}
            body = {"model": SEEDANCE, "input": given}
            ids.append((await admin.post("/v1/jobs", json=body, headers=key)).json()["id"])
        for job_id in ids[:2]:
            await admin.post(f"/v1/admin/jobs/{job_id}/fail")
    with sqlite3.connect(database, timeout=60) as connection:
        rows = [
            connection.execute("SELECT * FROM jobs WHERE id = ?", (each,)).fetchone()
            for each in ids
        ]
        names = [each[1] for each in connection.execute("PRAGMA table_info(jobs)")]
        place = names.index("id")
        marks = ", ".join("?" * len(names))
        connection.executemany(
            f"INSERT INTO jobs VALUES ({marks})",
            # One in a hundred still waits: what a filter has to find.
            (
                (*row[:place], new_id("job"), *row[place + 1 :])
                for n in range(jobs)
                for row in [rows[2 if n % 100 == 0 else n % 2]]
            ),
        )
        connection.execute("ANALYZE")


async def lists(url: str, jobs: int) -> None:
    print(f"\n| pages of 100 among {jobs} jobs | median | most |\n|---|---|---|")
    async with client(url) as admin:
        for name, query in {
            "newest first, 100 pages on": {},
            "`status=pending`": {"status": "pending"},
            "`user=bob`": {"user": "bob"},
            "`user=bob&status=failed`": {"user": "bob", "status": "failed"},
            "a model that nobody uses": {"model": "no/such/model"},
        }.items():
            took, cursor = [], None
            for _ in range(100):
                asked = {"limit": "100", **query} | ({"cursor": cursor} if cursor else {})
                began = time.perf_counter()
                answer = await admin.get("/v1/admin/jobs", params=asked)
                took.append(1000 * (time.perf_counter() - began))
                cursor = answer.raise_for_status().json()["next_cursor"]
                if cursor is None:
                    break
            print(f"| {name} | {median(took):.0f} ms | {max(took):.0f} ms |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.jobs, arguments.runs))
