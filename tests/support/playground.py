"""The playground in a browser, and what its visitors and their operators do."""

import asyncio
import io
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from PIL import Image
from playwright.async_api import Browser, Page, Response, Route, expect

from tests.support.browser import DESKTOP, Complaints, opened_page
from tests.support.served import client
from tests.support.zones import zone_at_noon

Schema = dict[str, Any]

PROMPT = "the camera drifts slowly over the hills"


def picture(width: int, height: int) -> dict[str, Any]:
    """Make a file for the browser to choose; other sizes have other colours."""
    content = io.BytesIO()
    Image.new("RGB", (width, height), (width % 256, height % 256, 90)).save(content, "JPEG")
    return {"name": "frame.jpg", "mimeType": "image/jpeg", "buffer": content.getvalue()}


class Directory:
    """What operators prepare before somebody opens the page; each test has a user of its own."""

    def __init__(self, site: str) -> None:
        self.site = site
        self.http = client(site)

    async def key(self, user: str, *, limits: dict[str, int] | None = None) -> str:
        noon = {"name": "noon", "timezone": zone_at_noon()}
        await self.http.post("/v1/admin/plans", json=noon)  # which may be there already
        amounts = {name: {"limit": most} for name, most in (limits or {}).items()}
        body = {"id": user, "plan": "noon", "limits": amounts}
        made = await self.http.post("/v1/admin/users", json=body)
        assert made.status_code == 201, made.text
        scopes = ["jobs:read", "jobs:write", "files", "tokens"]
        made = await self.http.post(
            "/v1/admin/keys", json={"user": user, "name": "page", "scopes": scopes}
        )
        key: str = made.json()["key"]
        return key

    async def end_job_of(self, user: str) -> None:
        """End the newest of a user's jobs, which may be one that has no end of its own."""
        listed = await self.http.get("/v1/admin/jobs", params={"user": user, "limit": 1})
        (job,) = listed.json()["data"]
        async with asyncio.timeout(60):
            while True:
                ended = await self.http.post(f"/v1/admin/jobs/{job['id']}/fail")
                if ended.status_code != 409 or ended.json()["state"] != "submitting":
                    break  # only while it is being sent it has to be waited for
        assert ended.status_code == 200, ended.text

    @asynccontextmanager
    async def nothing_sent(self) -> AsyncIterator[None]:
        """Let jobs wait while the block lasts."""
        await self.http.put("/v1/admin/dispatch", json={"paused": True})
        try:
            yield
        finally:
            await self.http.put("/v1/admin/dispatch", json={"paused": False})

    async def close_all_models(self, user: str) -> None:
        """Put a user on a plan that has none; it may be there already."""
        await self.http.post("/v1/admin/plans", json={"name": "none", "models": []})
        put = await self.http.patch(f"/v1/admin/users/{user}", json={"plan": "none"})
        assert put.status_code == 200, put.text


@asynccontextmanager
async def visiting(
    browser: Browser, site: str, *, allow: str = "", **look: Any
) -> AsyncIterator[Page]:
    """Open the playground; a complaint that `allow` does not describe fails the test."""
    async with opened_page(browser, **({"viewport": DESKTOP} | look)) as page:
        complaints = Complaints()
        complaints.listen(page)
        await page.goto(f"{site}/")
        yield page
        assert [said for said in complaints.heard if not (allow and re.search(allow, said))] == []


async def enter(page: Page, credential: str) -> None:
    await page.get_by_label("Key or client token").fill(credential)
    await page.get_by_role("button", name="Sign in").click()


async def sign_in(page: Page, credential: str) -> None:
    await enter(page, credential)
    await expect(page.get_by_role("form", name="Seedance")).to_be_visible()


def is_check_of(words: str) -> Callable[[Response], bool]:
    return lambda answer: (
        answer.url.endswith("/validate") and words in (answer.request.post_data or "")
    )


async def upload(page: Page, width: int, height: int) -> None:
    await page.get_by_label("Start Image: file").set_input_files(picture(width, height))


async def fill_in(page: Page, prompt: str) -> None:
    await upload(page, 640, 360)
    await page.get_by_label("Prompt").fill(prompt)
    seconds = page.get_by_role("radio", name="2", exact=True)
    await page.locator("label").filter(has=seconds).click()  # it covers the radio itself
    await expect(seconds).to_be_checked()
    await expect(page.get_by_label("Start Image: URL")).to_have_value(re.compile("^file_"))


async def choose(page: Page, model: str) -> None:
    await page.locator("[aria-haspopup=dialog]").click()
    await page.get_by_label("Search models").fill(model)
    await page.get_by_role("group", name="Models").get_by_role("button").first.click()


def model_with(change: Callable[[Schema], Schema]) -> Callable[[Route], Awaitable[None]]:
    """Make a route whose answer is the gateway's model, of another schema."""

    async def answer(route: Route) -> None:
        answer = await route.fetch()
        model = await answer.json()
        model["input_schema"] = change(model["input_schema"])
        await route.fulfill(response=answer, json=model)

    return answer


async def make(page: Page, prompt: str) -> None:
    await fill_in(page, prompt)
    await page.get_by_role("button", name="Make it").click()
