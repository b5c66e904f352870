"""The console in a browser, and what is sent to its gateway beside it."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from playwright.async_api import Browser, Page, expect

from tests.support.browser import DESKTOP, Complaints, opened_page
from tests.support.gateway import ADMIN_TOKEN, SEEDANCE
from tests.support.served import client


@asynccontextmanager
async def signed_in(
    browser: Browser, site: str, *, viewport: dict[str, int] = DESKTOP, allow: str = "422"
) -> AsyncIterator[Page]:
    """Open the console; at the end nothing may have been said against it but what `allow` is."""
    async with opened_page(browser, viewport=viewport) as page:
        complaints = Complaints()
        complaints.listen(page)
        await page.goto(f"{site}/console")
        await page.get_by_label("Admin token").fill(ADMIN_TOKEN)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        yield page
        # A browser reports refused calls by itself; the page shows them in words.
        assert [said for said in complaints.heard if not re.search(allow, said)] == []


async def key_of(site: str, user: str) -> str:
    async with client(site) as http:
        await http.post("/v1/admin/users", json={"id": user})
        made = await http.post("/v1/admin/keys", json={"user": user, "name": "test"})
        key: str = made.json()["key"]
        return key


async def submit(http: httpx.AsyncClient, words: str, **more: Any) -> str:
    picture = "https://example.com/a.png"
    given = {"prompt": f"a boat {words}", "first_frame_image_url": picture, "duration": 5}
    answer = await http.post("/v1/jobs", json={"model": SEEDANCE, "input": given, **more})
    assert answer.status_code == 202, answer.text
    job: str = answer.json()["id"]
    return job


async def submit_once(site: str, key: str, words: str, **more: Any) -> str:
    async with client(site, key) as http:
        return await submit(http, words, **more)


async def view(page: Page, name: str) -> None:
    await page.get_by_role("navigation").get_by_role("link", name=name).click()
    await expect(page.locator("main h1")).to_be_visible()


async def put_dear_price(site: str) -> None:
    """Let five seconds cost $1,234,567.89."""
    async with client(site) as http:
        line = {"model": SEEDANCE, "base_price_usd": "246913.578", "price_unit": "second"}
        await http.put("/v1/admin/prices", json={"prices": [line]})
