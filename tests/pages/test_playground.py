"""The playground as people use it: a real browser, a running gateway, the sandbox's films."""

import asyncio
import io
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.async_api import Browser, Page, Request, Response, Route, expect

from tests.support.browser import (
    DESKTOP,
    PHONE,
    Complaints,
    answered_after,
    drawn,
    opened_page,
    requests_of,
    serious_faults,
)
from tests.support.gateway import ADMIN_TOKEN
from tests.support.zones import zone_at_noon

Schema = dict[str, Any]

PROMPT = "the camera drifts slowly over the hills"
TOO_SMALL = "The uploaded image width and height must not be less than 300 pixels."
PLAYS = "video => !video.paused && video.currentTime > 0.2"

OVERHANGS = """[...document.querySelectorAll("body *")]
    .filter(each => document.documentElement.scrollWidth > innerWidth
        && each.getBoundingClientRect().right > innerWidth)
    .map(each => each.outerHTML.slice(0, 120))"""


def picture(width: int, height: int) -> dict[str, Any]:
    """Make a file for the browser to choose; other sizes have other colours."""
    content = io.BytesIO()
    Image.new("RGB", (width, height), (width % 256, height % 256, 90)).save(content, "JPEG")
    return {"name": "frame.jpg", "mimeType": "image/jpeg", "buffer": content.getvalue()}


class Directory:
    """What operators prepare before somebody opens the page; each test has a user of its own."""

    def __init__(self, site: str) -> None:
        self.site = site
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        # To read the certificates that nobody asks for takes 20 ms.
        self.http = httpx.AsyncClient(base_url=site, headers=headers, timeout=60, verify=False)

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
        ended = await self.http.post(f"/v1/admin/jobs/{job['id']}/fail")
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


@pytest.fixture
async def directory(site: str) -> AsyncIterator[Directory]:
    made = Directory(site)
    yield made
    await made.http.aclose()


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


async def test_a_newcomer_makes_a_video_and_then_another(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("ada", limits={"jobs_per_day": 10, "spend_usd_per_day": 20})
    async with visiting(browser, site, allow="422") as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(f"{request.method} {request.url}"))
        await sign_in(page, key)
        form = page.get_by_role("form")

        # A picture that breaks a rule of the schema is not even sent.
        await upload(page, 120, 120)
        await expect(form.get_by_text(TOO_SMALL)).to_be_visible()
        assert not [call for call in asked if call.endswith("/v1/files")]

        # What is missing is told at its field, and where it is told is where one is.
        await form.get_by_role("button", name="Make it").click()
        await expect(page.locator("#field-prompt-errors")).to_contain_text("`prompt` is missing")
        await expect(page.get_by_label("Prompt")).to_be_focused()
        assert await serious_faults(page) == []

        await fill_in(page, PROMPT)
        await expect(form.get_by_text(TOO_SMALL)).to_be_hidden()
        await expect(form.get_by_text("$0.20")).to_be_visible()
        await expect(form.get_by_text("spend per day: $20.00 left")).to_be_visible()
        await form.get_by_role("button", name="Make it").click()
        job = page.get_by_role("region", name="Job")
        await expect(job.get_by_text(re.compile("in queue|in progress"))).to_be_visible()
        video = job.locator("video")
        await expect(video).to_be_visible()
        await page.wait_for_function(f"() => [...document.querySelectorAll('video')].some({PLAYS})")
        await expect(job.get_by_text("completed")).to_be_visible()
        # It was told as it happened, not asked for again and again.
        assert len([call for call in asked if re.search(r"GET .*/v1/jobs/job_\w+$", call)]) <= 1
        async with page.expect_download() as download:
            await job.get_by_role("link", name="Download").click()
        assert (await download.value).suggested_filename.endswith(".mp4")
        await expect(page.get_by_text("9 of 10 left")).to_be_visible()
        await expect(form.get_by_text("jobs per day: 9 left")).to_be_visible()

        # The history has it with a picture, and offers it as a beginning.
        history = page.get_by_role("region", name="History")
        tile = history.get_by_role("button", name=f"Open {PROMPT}")
        await expect(tile.locator("video")).to_be_visible()
        await page.get_by_label("Prompt").fill("something else")
        await history.get_by_role("button", name=f"Again with {PROMPT}").click()
        await expect(page.get_by_label("Prompt")).to_have_value(PROMPT)
        await expect(page.get_by_role("radio", name="2", exact=True)).to_be_checked()
        await expect(form.get_by_role("img", name="Start Image")).to_be_visible()

        # Nothing of the credential is in an address or outlives the tab.
        assert not [call for call in asked if key in call]
        kept = await page.evaluate("JSON.stringify(localStorage) + document.cookie")
        assert "rcg_" not in kept
        await page.get_by_role("button", name="Sign out").click()
        assert await page.evaluate("sessionStorage.length") == 0


async def test_a_double_click_makes_one_job(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("dee")
    async with visiting(browser, site) as page:
        await sign_in(page, key)
        await make(page, "first sandbox:instant")
        history = page.get_by_role("region", name="History")
        await expect(history.get_by_role("button", name="Open first")).to_be_visible()
        button = page.get_by_role("button", name="Make it")
        await expect(button).to_be_enabled()
        await button.dispatch_event("click", {"detail": 2})
        await make(page, "second sandbox:instant")
        await expect(history.get_by_role("button", name="Open second")).to_be_visible()
        await expect(history.get_by_role("button", name="Open first")).to_have_count(1)


async def test_a_job_that_goes_on_is_in_view_again_after_a_reload(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("fay")
    async with visiting(browser, site) as page:
        await sign_in(page, key)
        job = page.get_by_role("region", name="Job")
        async with directory.nothing_sent():
            await make(page, "under way sandbox:instant")
            await expect(job.get_by_text("pending")).to_be_visible()
            await page.reload()
            await expect(job.get_by_text("under way")).to_be_visible()
            # Also where a later one has ended.
            await make(page, "thought better of")
            await expect(job.get_by_text("thought better of")).to_be_visible()
            await job.get_by_role("button", name="Cancel").click()
            await expect(job.get_by_text("cancelled")).to_be_visible()
            await page.reload()
            await expect(job.get_by_text("under way")).to_be_visible()
        await expect(job.locator("video")).to_be_visible()
        await page.reload()
        await expect(page.get_by_role("button", name="Open under way")).to_be_visible()
        await expect(page.get_by_text("Nothing in the making")).to_be_visible()


async def test_a_waiting_job_is_cancelled_and_a_used_up_limit_is_told(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("bob", limits={"jobs_per_day": 1})
    async with visiting(browser, site, allow="429") as page:
        await sign_in(page, key)
        await make(page, f"{PROMPT} sandbox:queue=0 sandbox:slow=600")
        job = page.get_by_role("region", name="Job")
        await expect(job.get_by_text("in progress")).to_be_visible()
        # Its states are read out, the seconds that it takes are not.
        await expect(job.get_by_role("status")).to_have_text("in progress")
        await expect(job.get_by_role("timer")).to_have_text(re.compile(r"^\d+ s$"))
        await expect(job.locator("[aria-live] [role=timer]")).to_have_count(0)

        await page.get_by_label("Prompt").fill("one more")
        await page.get_by_role("button", name="Make it").click()
        form = page.get_by_role("form")
        await expect(form.get_by_role("alert")).to_contain_text("jobs_per_day")
        # The check that was waiting for a pause in typing does not take the refusal away.
        await expect(form).to_contain_text("jobs per day is used up")
        await expect(form.get_by_role("alert")).to_contain_text("jobs_per_day")
        assert await serious_faults(page) == []

    other = await directory.key("cem")
    async with visiting(browser, site) as page:
        await sign_in(page, other)
        await make(page, f"{PROMPT} sandbox:stuck-in-queue sandbox:cancel-lag=8")
        job = page.get_by_role("region", name="Job")
        await expect(job.get_by_text("in queue", exact=True)).to_be_visible()
        seen = asyncio.Event()

        async def ask_once_seen(route: Route) -> None:
            await seen.wait()
            await route.continue_()

        await page.route("**/cancel", ask_once_seen)
        await job.get_by_role("button", name="Cancel").click()
        await expect(job.get_by_role("button", name="Cancelling")).to_be_disabled()
        seen.set()
        await expect(job.get_by_text("cancelled", exact=True)).to_be_visible()
        await expect(job.get_by_role("button", name="Cancel")).to_be_hidden()


async def test_a_failure_and_a_client_token_that_ends_are_told(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("eva")
    bearer = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=site, headers=bearer, timeout=60) as http:
        scopes = ["jobs:read", "jobs:write", "files"]
        minted = (
            await http.post("/v1/client-tokens", json={"scopes": scopes, "max_jobs": 1})
        ).json()
        async with visiting(browser, site, allow="401|429") as page:
            await sign_in(page, minted["token"])
            await make(page, f"{PROMPT} sandbox:fail")
            job = page.get_by_role("region", name="Job")
            await expect(job.get_by_text("failed", exact=True)).to_be_visible()
            await expect(job.get_by_role("alert")).to_be_visible()
            assert await serious_faults(page) == []
            gone = await http.delete(f"/v1/client-tokens/{minted['id']}")
            assert gone.status_code == 204
            await page.get_by_label("Prompt").fill("after the end")
            await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
            await expect(page.get_by_role("alert")).to_contain_text("You were signed out")


async def test_what_was_typed_outlives_the_sign_in_of_who_typed_it_alone(
    site: str, directory: Directory, browser: Browser
) -> None:
    key, other = await directory.key("ira"), await directory.key("max")
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=site, headers=headers, timeout=60) as http:
        for comes_back, is_kept in ((key, True), (other, False)):
            token = {"scopes": ["jobs:read", "jobs:write"]}
            minted = (await http.post("/v1/client-tokens", json=token)).json()
            async with visiting(browser, site, allow="401") as page:
                await sign_in(page, minted["token"])
                await choose(page, "google/gemini-omni-flash/text-to-video")
                prompt = page.get_by_label("prompt")
                async with page.expect_response(is_check_of("thought about")):
                    await prompt.fill("what was thought about for long")
                gone = await http.delete(f"/v1/client-tokens/{minted['id']}")
                assert gone.status_code == 204
                await prompt.fill(PROMPT)
                await expect(page.get_by_role("alert")).to_contain_text("You were signed out")
                await enter(page, comes_back)
                name = "Gemini Omni Flash Text to Video" if is_kept else "Seedance 1.0 Pro"
                await expect(page.get_by_role("form", name=name)).to_be_visible()
                await expect(prompt).to_have_value(PROMPT if is_kept else "")


async def test_the_form_needs_no_limits(site: str, directory: Directory, browser: Browser) -> None:
    key = await directory.key("mia")
    async with visiting(browser, site, allow="ERR_FAILED") as page:
        await sign_in(page, key)
        await page.route("**/v1/me", lambda route: route.abort())
        await page.reload()
        await expect(page.get_by_role("form", name="Seedance")).to_be_visible()
        await expect(page.get_by_role("form").get_by_text("$0.50")).to_be_visible()


async def test_what_cannot_be_a_key_is_told_as_such(site: str, browser: Browser) -> None:
    async with visiting(browser, site) as page:
        await enter(page, "ключ")
        await expect(page.get_by_role("alert")).to_contain_text("That is not one")


async def test_who_may_use_no_model_is_told(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("ivo")
    await directory.close_all_models("ivo")
    async with visiting(browser, site) as page:
        await enter(page, key)
        await expect(page.get_by_text("No model is open to you")).to_be_visible()


async def test_models_that_could_not_be_read_at_first_are_there_a_moment_later(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("mel")
    async with visiting(browser, site, allow="ERR_FAILED") as page:
        await page.route("**/v1/models?*", lambda route: route.abort(), times=1)
        await enter(page, key)
        told = page.get_by_role("alert")
        await expect(told).to_contain_text("cannot be reached")
        await expect(page.get_by_role("form", name="Seedance")).to_be_visible()
        await expect(told).to_have_count(0)


async def test_who_could_not_be_shown_the_first_model_is_asked_to_choose_one(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("sol")
    async with visiting(browser, site, allow="ERR_FAILED") as page:
        await page.route("**/v1/models/**", lambda route: route.abort(), times=1)
        await enter(page, key)
        await expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
        await expect(page.get_by_role("button", name="Choose a model")).to_be_enabled()
        await choose(page, "seedance-1-0/pro/image-to-video")
        await expect(page.get_by_role("form", name="Seedance")).to_be_visible()
        await expect(page.get_by_role("alert")).to_have_count(0)


async def test_one_model_is_not_told_as_several(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("una")

    async def leave_one(route: Route) -> None:
        answer = await route.fetch()
        models = (await answer.json())["models"]
        await route.fulfill(response=answer, json={"models": models[:1]})

    async with visiting(browser, site) as page:
        await page.route("**/v1/models?*", leave_one)
        await enter(page, key)
        await page.locator("[aria-haspopup=dialog]").click()
        await expect(page.get_by_placeholder("Search 1 model", exact=True)).to_be_visible()


async def test_why_a_model_is_no_longer_open_is_told(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("ida")
    async with visiting(browser, site, allow="403") as page:
        await sign_in(page, key)
        await make(page, f"{PROMPT} sandbox:instant")
        again = page.get_by_role("button", name=f"Again with {PROMPT}")
        await expect(again).to_be_visible()
        await directory.close_all_models("ida")
        await again.click()
        alert = page.get_by_role("alert").first  # the form's check may have met it too
        await expect(alert).to_contain_text("Your plan or key does not allow bytedance/seedance")


async def test_a_picture_that_the_policy_bars_is_not_shown(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("ole")
    async with visiting(browser, site) as page:
        await sign_in(page, key)
        async with page.expect_response("**/v1/jobs/validate"):
            await page.get_by_label("Start Image: URL").fill("http://127.0.0.1:9/a.png")
        await expect(page.get_by_role("img", name="Start Image")).to_have_count(0)


async def test_a_picture_is_looked_at_when_its_address_has_been_typed(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("pit")
    content = picture(640, 360)["buffer"]
    async with visiting(browser, site, allow="422") as page:
        await page.clock.install()
        await page.reload()
        await sign_in(page, key)
        asks = requests_of(page, "https://pictures.example")
        await page.route(
            "https://pictures.example/**",
            lambda route: route.fulfill(body=content, content_type="image/jpeg"),
        )
        named = page.get_by_label("Start Image: URL")
        shown = page.get_by_role("img", name="Start Image")
        first, second = (f"https://pictures.example/{name}.jpg" for name in ("frame", "other"))
        await page.clock.pause_at(await page.evaluate("Date.now() + 1000"))
        await named.press_sequentially(first)
        assert await shown.count() == 0
        assert asks == []
        await page.clock.run_for(2000)  # typing pauses
        await expect(shown).to_have_js_property("naturalWidth", 640)

        # It is not the picture of another address; what the field is left with is final.
        await named.fill(second)
        await expect(shown).to_have_count(0)
        await named.press("Tab")
        await expect(shown).to_have_attribute("src", second)
        await expect(shown).to_have_js_property("naturalWidth", 640)
        assert [ask.url for ask in asks] == [first, second]


async def test_the_picture_at_a_field_is_that_of_the_file_it_names(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("jan")
    async with visiting(browser, site, allow="422") as page:
        await sign_in(page, key)
        await choose(page, "google/nano-banana-2-lite/edit")
        images = page.get_by_role("group", name="image urls")
        for n, width in enumerate((640, 320), start=1):
            await images.get_by_label(f"{n}: file").set_input_files(picture(width, 360))
            named = images.get_by_label(f"{n}: URL")
            await expect(named).to_have_value(re.compile("^file_"))
        second = await named.input_value()

        # The first one is taken away, and the second is sent alone.
        await images.get_by_label("1: URL").fill("")
        await expect(images.get_by_role("img")).to_have_count(1)
        shown = images.get_by_role("img", name="image urls 2")
        await expect(shown).to_have_js_property("naturalWidth", 320)
        async with page.expect_request("**/v1/jobs") as made:
            await page.get_by_role("button", name="Make it").click()
        assert (await made.value).post_data_json["input"]["image_urls"] == [second]

        # A file that is refused is not the one that will be sent.
        text = {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": b"no picture"}
        await images.get_by_label("2: file").set_input_files(text)
        await expect(images.get_by_role("alert")).to_be_visible()
        await expect(images.get_by_label("2: URL")).to_have_value(second)
        await expect(shown).to_have_js_property("naturalWidth", 320)


async def test_to_replace_one_address_of_a_list_leaves_the_next_one(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("lis")
    async with visiting(browser, site, allow="422") as page:
        await sign_in(page, key)
        await choose(page, "google/nano-banana-2-lite/edit")
        images = page.get_by_role("group", name="image urls")
        first, second = (images.get_by_label(f"{n}: URL") for n in (1, 2))
        await first.fill("http://127.0.0.1:9/a.png")
        await second.fill("http://127.0.0.1:9/b.png")
        await first.clear()
        await first.press_sequentially("http://127.0.0.1:9/c.png")
        await expect(first).to_have_value("http://127.0.0.1:9/c.png")
        await expect(second).to_have_value("http://127.0.0.1:9/b.png")


async def test_an_upload_that_takes_long_replaces_nothing_newer(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("zoe")
    slow = asyncio.Event()

    async with visiting(browser, site) as page:
        await sign_in(page, key)
        await choose(page, "google/nano-banana-2-lite/edit")
        images = page.get_by_role("group", name="image urls")
        first, second = (images.get_by_label(f"{n}: URL") for n in (1, 2))
        await first.fill("http://127.0.0.1:9/a.png")
        await page.route("**/v1/files", answered_after(slow))

        # The other picture of the list is named meanwhile.
        async with page.expect_response("**/v1/files"):
            await images.get_by_label("2: file").set_input_files(picture(640, 360))
            await expect(images.get_by_role("button", name="Uploading")).to_be_visible()
            await first.fill("http://127.0.0.1:9/b.png")
            slow.set()
        await expect(second).to_have_value(re.compile("^file_"))
        await expect(first).to_have_value("http://127.0.0.1:9/b.png")

        # The same one is.
        slow.clear()
        await images.get_by_label("2: file").set_input_files(picture(320, 360))
        await expect(images.get_by_role("button", name="Uploading")).to_be_visible()
        await second.fill("http://127.0.0.1:9/c.png")
        slow.set()
        await expect(page.get_by_role("button", name="Make it")).to_be_enabled()
        await expect(second).to_have_value("http://127.0.0.1:9/c.png")


async def test_a_prompt_that_is_too_long_is_told_and_not_cut(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("abe")
    async with visiting(browser, site) as page:
        await sign_in(page, key)
        await choose(page, "happyhorse/happyhorse-1.0/text-to-video")
        prompt = page.get_by_label("prompt")
        await expect(page.get_by_role("form", name="HappyHorse")).to_be_visible()
        errors = page.locator("#field-prompt-errors")
        await prompt.fill("\N{FOX FACE}" * 2501)
        await expect(errors).to_contain_text("2500")
        assert await prompt.input_value() == "\N{FOX FACE}" * 2501
        await prompt.fill("\N{FOX FACE}" * 2500)
        await expect(errors).to_be_empty()


async def test_what_has_just_been_filled_in_is_not_said_to_be_missing(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("flo")
    async with visiting(browser, site) as page:
        await sign_in(page, key)
        await expect(page.get_by_text("$0.50")).to_be_visible()
        await page.route("**/v1/jobs/validate", lambda _: None)  # the next check takes long
        prompt, errors = page.get_by_label("Prompt"), page.locator("#field-prompt-errors")
        await prompt.press_sequentially("a red fox")
        await drawn(page)
        await expect(errors).to_be_empty()
        await prompt.fill("")
        await expect(errors).to_contain_text("`prompt` is missing")


async def test_what_is_said_about_a_field_is_said_to_everybody(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("max-ear")

    def described(schema: Schema) -> Schema:
        for name, field in schema["properties"].items():
            field["description"] = f"About {name}."
        return schema

    async with visiting(browser, site) as page:
        await page.route("**/v1/models/*/**", model_with(described))
        await sign_in(page, key)
        for field, name in (
            (page.get_by_label("Prompt"), "prompt"),
            (page.get_by_label("Start Image: URL"), "first_frame_image_url"),
            (page.get_by_role("group", name="Duration"), "duration"),
        ):
            await expect(field).to_have_accessible_description(f"About {name}.")
        await choose(page, "wan-ai/wan-2.7/text-to-video")
        seed = page.get_by_role("spinbutton", name="seed")
        await expect(seed).to_have_accessible_description("About seed.")
        assert await serious_faults(page) == []
        await choose(page, "kling/kling-3.0/pro/text-to-video")
        slider = page.get_by_role("slider", name="cfg scale")
        await expect(slider).to_have_accessible_description("About cfg_scale.")
        assert await serious_faults(page) == []


async def test_a_number_among_very_many_can_be_typed(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("kai")
    async with visiting(browser, site) as page:
        await sign_in(page, key)
        await choose(page, "wan-ai/wan-2.7/text-to-video")
        await page.get_by_role("spinbutton", name="seed").fill("20260722")
        async with page.expect_request("**/v1/jobs") as made:
            await page.get_by_label("prompt").first.fill("a red fox")
            await page.get_by_role("button", name="Make it").click()
        assert (await made.value).post_data_json["input"]["seed"] == 20260722
        await choose(page, "kling/kling-3.0/pro/text-to-video")
        await expect(page.get_by_role("slider", name="cfg scale")).to_have_value("0.5")


async def test_a_number_with_decimals_can_be_typed(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("dec")
    async with visiting(browser, site, allow="422") as page:
        await sign_in(page, key)
        await choose(page, "lightricks/ltx-2.5/audio-to-video/pro")
        scale = page.get_by_role("spinbutton", name="guidance scale")
        for typed, meant in (("2.5", 2.5), ("12.05", 12.05), ("1e1", 10)):
            await scale.fill("")
            await scale.press_sequentially(typed)
            async with page.expect_request("**/v1/jobs") as made:
                await page.get_by_role("button", name="Make it").click()
            assert (await made.value).post_data_json["input"]["guidance_scale"] == meant
            await expect(scale).to_have_value(typed)


async def test_what_may_be_left_out_can_be_left_out_again(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("ute")

    def without_defaults(schema: Schema) -> Schema:
        for field in schema["properties"].values():
            field.pop("default", None)
        return schema

    async with visiting(browser, site) as page:
        await page.route("**/v1/models/kling/**", model_with(without_defaults))
        await sign_in(page, key)
        await choose(page, "kling/kling-3.0/pro/text-to-video")
        slider = page.get_by_role("slider", name="cfg scale")
        await slider.fill("0.7")
        await page.get_by_role("switch", name="sound").check()
        ratio = page.get_by_role("radio", name="9:16")
        await page.locator("label").filter(has=ratio).click()
        await expect(page.locator("output").first).to_have_text("0.7")
        assert await serious_faults(page) == []
        for name in ("cfg scale", "sound", "aspect ratio"):
            clear = page.get_by_role("button", name=f"Clear {name}")
            await clear.click()
            await expect(clear).to_have_count(0)
        await expect(page.locator("output").first).to_have_text("not set")
        await expect(ratio).not_to_be_checked()
        await expect(page.get_by_role("button", name=re.compile("^Clear"))).to_have_count(0)
        async with page.expect_request("**/v1/jobs") as made:
            await page.get_by_label("prompt").first.fill("a red fox")
            await page.get_by_role("button", name="Make it").click()
        assert (await made.value).post_data_json["input"] == {"prompt": "a red fox"}


async def test_what_is_no_text_is_sent_as_what_it_is(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("dot")
    odd = {
        "seed": {"type": ["integer", "null"]},
        "weights": {"type": "array", "items": {"type": "number"}},
        "camera": {"type": "object", "properties": {"pan": {"type": "number"}}},
        "shots": {"type": "array", "items": {"type": "object"}},
    }

    async with visiting(browser, site, allow="422") as page:
        odd_alone = model_with(lambda _: {"type": "object", "properties": odd})
        await page.route("**/v1/models/kling/**", odd_alone)
        await sign_in(page, key)
        await choose(page, "kling/kling-3.0/pro/text-to-video")
        await page.get_by_role("spinbutton", name="seed").fill("7")
        await page.get_by_label("weights").fill("1\n2.5\nmuch")
        await page.get_by_label("camera").fill('{"pan": 1}')
        await page.get_by_label("shots").fill("[{]")
        assert await serious_faults(page) == []
        async with page.expect_request("**/v1/jobs") as made:
            await page.get_by_role("button", name="Make it").click()
        # What cannot be read goes as it is: the gateway says what is wrong with it.
        assert (await made.value).post_data_json["input"] == {
            "seed": 7,
            "weights": [1, 2.5, "much"],
            "camera": {"pan": 1},
            "shots": "[{]",
        }


async def test_a_choice_of_nothing_has_a_name_and_is_sent(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("nil")
    many = [f"voice {n}" for n in range(12)]
    odd = {
        "style": {"type": "string", "enum": ["", "film", "anime"], "default": "film"},
        "mood": {"type": ["string", "null"], "enum": ["calm", None], "default": "calm"},
        "voice": {"type": "string", "enum": ["", *many]},
        "grain": {"type": ["string", "null"], "enum": ["fine", None], "default": None},
    }

    async with visiting(browser, site, allow="422") as page:
        odd_alone = model_with(lambda _: {"type": "object", "properties": odd})
        await page.route("**/v1/models/kling/**", odd_alone)
        await sign_in(page, key)
        await choose(page, "kling/kling-3.0/pro/text-to-video")
        for field, name in (("style", "(empty)"), ("mood", "none"), ("grain", "fine")):
            group = page.get_by_role("group", name=field)
            await group.get_by_text(name, exact=True).click()
            await expect(group.get_by_role("radio", name=name)).to_be_checked()
        await page.get_by_label("voice").select_option("(empty)")
        # What is null by default may be left out again.
        await page.get_by_role("button", name="Clear grain").click()
        assert await serious_faults(page) == []
        async with page.expect_request("**/v1/jobs") as made:
            await page.get_by_role("button", name="Make it").click()
        assert (await made.value).post_data_json["input"] == {
            "style": "",
            "mood": None,
            "voice": "",
        }


async def test_the_model_that_was_chosen_last_is_shown(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("kay")
    slow = asyncio.Event()

    async with visiting(browser, site) as page:
        await sign_in(page, key)
        await page.route("**/v1/models/wan-ai/**", answered_after(slow))
        await choose(page, "wan-ai/wan-2.7/text-to-video")
        await choose(page, "kling/kling-3.0/pro/text-to-video")
        slider = page.get_by_role("slider", name="cfg scale")
        await expect(slider).to_be_visible()
        async with page.expect_response("**/v1/models/wan-ai/**") as answered:
            slow.set()
        await (await answered.value).finished()
        await drawn(page)
        await expect(slider).to_be_visible()


async def test_a_model_that_is_chosen_before_the_limits_are_known_stays(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("gil", limits={"jobs_per_day": 9})
    slow = asyncio.Event()

    async with visiting(browser, site) as page:
        await sign_in(page, key)
        await page.route("**/v1/me", answered_after(slow))
        await page.reload()
        await expect(page.get_by_role("form", name="Seedance")).to_be_visible()
        await choose(page, "kling/kling-3.0/pro/text-to-video")
        await expect(page.get_by_role("slider", name="cfg scale")).to_be_visible()
        prompt = page.get_by_label("prompt").first
        await prompt.fill("a red fox")
        asks = requests_of(page, "/v1/models/")
        slow.set()
        await expect(page.get_by_text("9 of 9 left")).to_be_visible()
        await drawn(page)
        assert asks == []
        await expect(prompt).to_have_value("a red fox")


async def test_what_came_before_can_be_begun_with_again_and_again(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("ben")
    async with visiting(browser, site) as page:
        await sign_in(page, key)
        await make(page, f"{PROMPT} sandbox:instant")
        again = page.get_by_role("button", name=f"Again with {PROMPT}")
        prompt = page.get_by_label("Prompt")
        for _ in range(2):
            await prompt.fill("something else")
            await again.click()
            await expect(prompt).to_have_value(f"{PROMPT} sandbox:instant")


async def test_the_keyboard_goes_on_at_what_was_opened_and_stays_after_a_submit(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("joy")
    async with visiting(browser, site) as page:
        await sign_in(page, key)
        await fill_in(page, f"{PROMPT} sandbox:instant")
        prompt = page.get_by_label("Prompt")
        async with page.expect_response("**/v1/jobs") as answered:
            await page.get_by_role("button", name="Make it").click()
            await prompt.focus()
        await (await answered.value).finished()
        job = page.get_by_role("region", name="Job")
        await expect(job).to_be_visible()
        await drawn(page)
        await expect(prompt).to_be_focused()

        await page.get_by_role("button", name=f"Open {PROMPT}").press("Enter")
        await expect(job).to_be_focused()
        await page.get_by_role("button", name=f"Again with {PROMPT}").press("Enter")
        await expect(page.get_by_role("form", name="Seedance")).to_be_focused()
        await page.keyboard.press("Tab")
        await expect(prompt).to_be_focused()


async def test_to_choose_the_model_in_view_once_more_keeps_what_was_typed(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("kit")
    async with visiting(browser, site) as page:
        await sign_in(page, key)
        await make(page, f"{PROMPT} sandbox:instant")
        await page.get_by_role("button", name=f"Again with {PROMPT}").click()
        await expect(page.locator("form")).to_be_focused()  # as soon as it is filled in again
        prompt = page.get_by_label("Prompt")
        await prompt.fill("a longer one")
        await choose(page, "seedance-1-0/pro/image-to-video")
        await drawn(page)
        await expect(prompt).to_have_value("a longer one")


async def test_another_model_begins_with_the_texts_that_were_typed_and_nothing_else(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("tess")
    async with visiting(browser, site) as page:
        await sign_in(page, key)
        await fill_in(page, PROMPT)
        await choose(page, "kling/kling-3.0/pro/image-to-video")
        await expect(page.get_by_role("slider", name="cfg scale")).to_be_visible()
        prompt = page.get_by_label("prompt").first
        await expect(prompt).to_have_value(PROMPT)
        await prompt.fill("a red fox")
        await choose(page, "seedance-1-0/pro/image-to-video")
        await expect(page.get_by_role("form", name="Seedance")).to_be_visible()
        await expect(page.get_by_label("Prompt")).to_have_value("a red fox")
        await expect(page.get_by_label("Start Image: URL")).to_have_value("")
        await expect(page.get_by_role("radio", name="5", exact=True)).to_be_checked()


async def test_the_limits_are_as_they_were_asked_for_last(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("eve", limits={"jobs_per_day": 9})
    slow = asyncio.Event()

    async with visiting(browser, site) as page:
        await sign_in(page, key)
        asks = requests_of(page, "/v1/me")
        await page.route("**/v1/me", answered_after(slow), times=1)
        for take in (1, 2):
            await make(page, f"take {take} sandbox:slow=60")
            await expect(page.get_by_role("button", name=f"Open take {take}")).to_be_visible()
        await expect(page.get_by_text("7 of 9 left")).to_be_visible()
        slow.set()
        await asks[0].response()
        await drawn(page)
        assert await page.get_by_text("7 of 9 left").is_visible()


async def test_a_picture_is_dropped_at_its_field_and_nowhere_else(
    site: str, directory: Directory, browser: Browser, tmp_path: Path
) -> None:
    key = await directory.key("ron")
    frame = tmp_path / "frame.jpg"
    frame.write_bytes(picture(640, 360)["buffer"])
    async with visiting(browser, site) as page:
        await sign_in(page, key)
        field = page.get_by_role("group", name="Start Image")
        box = await field.locator(".media-field").bounding_box()
        assert box
        session = await page.context.new_cdp_session(page)
        named = page.get_by_label("Start Image: URL")
        for below, dropped in ((-60, ""), (20, "file_")):
            for kind in ("dragEnter", "dragOver", "drop"):
                data = {"items": [], "files": [str(frame)], "dragOperationsMask": 1}
                place = {"x": box["x"] + 40, "y": box["y"] + below}
                drag = {"type": kind, "data": data} | place
                await session.send("Input.dispatchDragEvent", drag)
            await expect(named).to_have_value(re.compile(f"^{dropped}"))
        assert [each.url for each in page.context.pages] == [f"{site}/"]


async def test_long_names_and_other_scripts_find_their_place(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("u" * 128)
    async with visiting(browser, site) as page:
        await sign_in(page, key)
        edge = "document.querySelector('{}').getBoundingClientRect().{}"
        await expect(page.get_by_text("u" * 128)).to_be_visible()
        brand, who = edge.format(".navbar-brand", "right"), edge.format(".who", "left")
        assert await page.evaluate(f"{brand} <= {who}")
        await page.get_by_label("Prompt").fill("غروب الشمس")
        assert await page.get_by_label("Prompt").evaluate("e => getComputedStyle(e).direction") == (
            "rtl"
        )


async def test_a_gateway_that_is_back_is_no_longer_said_to_be_away(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("pam")
    async with visiting(browser, site, allow="ERR_FAILED") as page:
        await sign_in(page, key)
        await page.route("**/v1/jobs/validate", lambda route: route.abort())
        await fill_in(page, f"{PROMPT} sandbox:instant")
        away = page.get_by_role("form").get_by_text("The gateway cannot be reached.")
        await expect(away).to_be_visible()
        await page.get_by_role("button", name="Make it").click()
        await expect(page.get_by_role("region", name="Job").locator("video")).to_be_visible()
        # What was typed meanwhile is checked as soon as that can be done.
        await page.get_by_label("Prompt").fill("something else")
        await expect(away).to_be_visible()
        await page.unroute("**/v1/jobs/validate")
        await expect(away).to_be_hidden()


@pytest.mark.parametrize("body", ["<p>Sign in to this network.", ""])
async def test_an_answer_that_is_none_of_the_gateways_is_told_and_the_job_made_once(
    site: str, directory: Directory, browser: Browser, body: str
) -> None:
    key = await directory.key(f"pia-{len(body)}")
    async with visiting(browser, site) as page:
        await sign_in(page, key)
        await fill_in(page, f"{PROMPT} sandbox:instant")
        keys: list[str | None] = []

        async def answer_elsewhere(route: Route) -> None:
            keys.append(route.request.headers.get("idempotency-key"))
            await route.fetch()
            await route.fulfill(status=200, body=body)

        await page.route("**/v1/jobs", answer_elsewhere)
        button = page.get_by_role("button", name="Make it")
        for _ in range(2):
            await button.click()
            alert = page.get_by_role("form").get_by_role("alert")
            await expect(alert).to_contain_text("The gateway cannot be reached.")
        assert len(keys) == 2
        assert len(set(keys)) == 1


async def test_a_page_that_nobody_sees_holds_no_connection(
    site: str, directory: Directory, browser: Browser
) -> None:
    """A browser has six for all its tabs: six tabs that follow a job would keep out a seventh."""
    key = await directory.key("sue")
    async with visiting(browser, site) as page:
        opened: list[str] = []
        page.on("request", lambda call: opened.append(call.url) if is_stream(call) else None)
        await sign_in(page, key)
        await make(page, f"{PROMPT} sandbox:queue=0 sandbox:stuck")
        job = page.get_by_role("region", name="Job")
        await expect(job.get_by_text("in progress")).to_be_visible()
        read = re.compile(r"/v1/jobs/job_\w+$")
        async with page.expect_event("requestfailed", is_stream), page.expect_response(read):
            await turn(page, hidden=True)
        assert len(opened) == 1
        async with page.expect_request(is_stream):
            await turn(page, hidden=False)
        await directory.end_job_of("sue")
        await expect(job.get_by_text("failed", exact=True)).to_be_visible()
        assert len(opened) == 2


def is_stream(call: Request) -> bool:
    return call.url.endswith("/events")


async def turn(page: Page, *, hidden: bool) -> None:
    await page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


async def test_what_is_left_to_wait_becomes_less(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("pia")
    async with visiting(browser, site) as page:
        await sign_in(page, key)
        await make(page, f"{PROMPT} sandbox:queue=0 sandbox:stuck")
        job = page.get_by_role("region", name="Job")
        await expect(job.get_by_role("status")).to_have_text("in progress")
        await expect(job.get_by_text(re.compile(r"about \d+ s to go"))).to_be_visible()
        await page.clock.install()
        await page.clock.fast_forward("01:00:00")
        await expect(job.get_by_role("timer")).to_contain_text("1 h")
        await expect(job.get_by_text("to go")).to_have_count(0)


async def test_nothing_moves_for_who_wants_no_motion(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("cal")
    async with visiting(browser, site, reduced_motion="reduce") as page:
        await sign_in(page, key)
        await make(page, f"{PROMPT} sandbox:slow=60")
        await expect(page.get_by_role("timer")).to_be_visible()
        await page.wait_for_function("!document.getAnimations().length")
    await directory.end_job_of("cal")


async def test_it_shows_its_files_by_whichever_name_it_is_reached(
    site: str, directory: Directory, browser: Browser
) -> None:
    """`serve` puts 127.0.0.1 into its links, and people type localhost."""
    key = await directory.key("lea")
    async with visiting(browser, site.replace("127.0.0.1", "localhost")) as page:
        await sign_in(page, key)
        await make(page, f"{PROMPT} sandbox:instant")
        job = page.get_by_role("region", name="Job")
        await expect(job.locator("video")).to_have_js_property("readyState", 4)
        async with page.expect_download() as download:
            await job.get_by_role("link", name="Download").click()
        assert (await download.value).suggested_filename.endswith(".mp4")
        tile = page.get_by_role("button", name=f"Open {PROMPT}")
        await expect(tile.locator("video")).not_to_have_js_property("readyState", 0)
        await page.get_by_role("button", name=f"Again with {PROMPT}").click()
        shown = page.get_by_role("img", name="Start Image")
        await expect(shown).to_have_js_property("naturalWidth", 640)


async def test_a_finished_job_no_longer_says_that_it_could_not_be_cancelled(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("tim")
    async with visiting(browser, site, allow="409") as page:
        await sign_in(page, key)
        await make(page, f"{PROMPT} sandbox:queue=0 sandbox:stuck")
        job = page.get_by_role("region", name="Job")
        await expect(job.get_by_text("in progress")).to_be_visible()
        await job.get_by_role("button", name="Cancel").click()
        await expect(job.get_by_role("alert")).to_contain_text("not_cancellable")
        await directory.end_job_of("tim")
        await expect(job.get_by_text("failed", exact=True)).to_be_visible()
        await expect(job.get_by_role("alert")).to_have_count(1)
        await expect(job.get_by_role("alert")).not_to_contain_text("not_cancellable")


async def test_the_history_moves_on_while_another_job_is_looked_at(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("leo")
    async with visiting(browser, site) as page:
        await sign_in(page, key)
        history = page.get_by_role("region", name="History")
        film = page.get_by_role("region", name="Job").locator("video")
        await make(page, "first sandbox:instant")
        await expect(film).to_be_visible()
        async with directory.nothing_sent():
            await make(page, "second sandbox:instant")
            tile = history.get_by_role("button", name="Open second")
            await expect(tile.get_by_text("pending")).to_be_visible()
            await expect(film).to_have_count(0)
            await history.get_by_role("button", name="Open first").click()
            await expect(film).to_be_visible()
        await expect(tile.locator("video")).to_be_visible()


async def test_a_double_click_shows_more_of_the_history_once(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("moe")
    headers = {"Authorization": f"Bearer {key}", "Prefer": "wait=60"}
    async with httpx.AsyncClient(base_url=site, headers=headers, timeout=90) as http:
        asked = {
            "model": "google/gemini-omni-flash/text-to-video",
            "input": {"prompt": f"{PROMPT} sandbox:instant sandbox:output=image"},
        }
        made = await asyncio.gather(*(http.post("/v1/jobs", json=asked) for _ in range(14)))
        assert {answer.json()["status"] for answer in made} == {"completed"}
    async with visiting(browser, site) as page:
        await sign_in(page, key)
        history = page.get_by_role("region", name="History")
        more = history.get_by_role("button", name="Show more")
        await expect(more).to_be_visible()
        asks = requests_of(page, "cursor=")
        await more.evaluate("button => { button.click(); button.click(); }")
        await expect(more).to_have_count(0)
        for ask in asks:
            await ask.response()
        await drawn(page)
        await expect(history.get_by_role("article")).to_have_count(14)


async def test_a_lost_answer_is_explained(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("uma")
    async with visiting(browser, site) as page:
        await sign_in(page, key)
        await make(page, f"{PROMPT} sandbox:lost-answer")
        job = page.get_by_role("region", name="Job")
        await expect(job.get_by_text("submit unknown")).to_be_visible()
        await expect(job.get_by_text("An operator of this gateway can settle it")).to_be_visible()
        await expect(job.get_by_role("button", name="Cancel")).to_have_count(0)


async def test_a_file_that_is_gone_is_told(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("udo")
    async with visiting(browser, site, allow="410") as page:
        await sign_in(page, key)
        await make(page, f"{PROMPT} sandbox:instant sandbox:output-gone")
        job = page.get_by_role("region", name="Job")
        await expect(job.get_by_text("The video cannot be fetched")).to_be_visible()
        history = page.get_by_role("region", name="History")
        await expect(history.get_by_text("no file")).to_be_visible()
        assert await serious_faults(page) == []


async def test_a_file_that_this_browser_cannot_show_is_not_said_to_be_gone(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("avi")

    async def answer_strangely(route: Route) -> None:
        if route.request.method == "HEAD":
            await route.continue_()
        else:
            await route.fulfill(body="of tomorrow", content_type="video/mp4")

    async with visiting(browser, site, allow="ERR_FAILED") as page:
        await sign_in(page, key)
        await page.route("**/outputs/**", answer_strangely)
        await make(page, f"{PROMPT} sandbox:instant")
        job = page.get_by_role("region", name="Job")
        await expect(job.get_by_text("this browser cannot show")).to_be_visible()
        await expect(job.get_by_role("link", name="Download")).to_be_visible()
        history = page.get_by_role("region", name="History")
        await expect(history.get_by_text("no preview")).to_be_visible()
        await page.route("**/outputs/**", lambda route: route.abort())
        await make(page, "another sandbox:instant")
        await expect(job.get_by_text("the gateway cannot be reached")).to_be_visible()


async def test_a_job_of_yesterday_is_opened_as_it_is_now(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("old")

    async def answer_as_yesterday(route: Route) -> None:
        answer = await route.fetch()
        signed = await answer.text()
        await route.fulfill(response=answer, body=signed.replace("signature=", "signature=old"))

    async with visiting(browser, site, allow="401") as page:
        await sign_in(page, key)
        await page.route("**/v1/jobs?*", answer_as_yesterday)
        await make(page, f"{PROMPT} sandbox:instant")
        tile = page.get_by_role("button", name=f"Open {PROMPT}")
        await expect(tile.get_by_text("no file")).to_be_visible()
        await make(page, "another sandbox:instant")
        film = page.get_by_role("region", name="Job").locator("video")
        await expect(film).to_have_attribute("aria-label", "another sandbox:instant")
        await tile.click()
        await expect(film).to_have_attribute("aria-label", f"{PROMPT} sandbox:instant")
        await expect(film).not_to_have_js_property("readyState", 0)


async def test_a_tile_shows_one_output_and_the_job_shows_all(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("ann")
    async with visiting(browser, site) as page:
        await sign_in(page, key)
        for output, shown in (("videos", "video"), ("audios", "audio")):
            prompt = f"{PROMPT} sandbox:instant sandbox:output={output}"
            await make(page, prompt)
            job = page.get_by_role("region", name="Job")
            await expect(job.locator(shown)).to_have_count(2)
            tile = page.get_by_role("button", name=f"Open {prompt}")
            await expect(tile.locator("video").or_(tile.get_by_text("sound"))).to_have_count(1)


async def test_the_keyboard_alone_finds_a_model_and_makes_a_picture(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("kim")
    async with visiting(browser, site) as page:
        press = page.keyboard.press
        await expect(page.get_by_label("Key or client token")).to_be_focused()
        await page.keyboard.type(key)
        await press("Enter")
        chooser = page.get_by_role("button", name=re.compile("Seedance"))
        await expect(chooser).to_be_visible()
        await tab_to(page, chooser)
        await press("Enter")
        await expect(page.get_by_label("Search models")).to_be_focused()
        await page.keyboard.type("flux image")
        models = page.get_by_role("group", name="Models").get_by_role("button")
        await expect(models.first).to_contain_text(re.compile("flux", re.IGNORECASE))
        await page.keyboard.type(" nothing like it")
        await expect(page.get_by_text("No model matches")).to_be_visible()
        for _ in " nothing like it":
            await press("Backspace")
        wanted = models.filter(has_text="blackforestlabs/flux-3/image ·")
        await tab_to(page, wanted)
        await press("Enter")
        prompt = page.get_by_label("Prompt")
        await expect(page.get_by_role("textbox", name="prompt required")).to_be_visible()
        await expect(page.get_by_role("radio", name="landscape_4_3")).to_be_checked()
        await tab_to(page, prompt)
        await page.keyboard.type("a red fox sandbox:instant")
        make = page.get_by_role("button", name="Make it")
        await tab_to(page, make)
        await press("Enter")
        job = page.get_by_role("region", name="Job")
        await expect(job.get_by_role("img", name="a red fox sandbox:instant")).to_be_visible()


async def tab_to(page: Page, target: Any, *, most: int = 40) -> None:
    for _ in range(most):
        if await target.evaluate("element => element === document.activeElement"):
            return
        await page.keyboard.press("Tab")
    raise AssertionError(f"{target} is not reached by Tab")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_is_usable_for_everybody_by_day_and_night_near_and_far(
    site: str, directory: Directory, browser: Browser, scheme: str
) -> None:
    limits = {"jobs_per_day": 3, "spend_usd_per_month": 5}
    key = await directory.key(f"zoe-{scheme}", limits=limits)
    for viewport in (DESKTOP, PHONE):
        async with visiting(
            browser, site, viewport=viewport, color_scheme=scheme, reduced_motion="reduce"
        ) as page:
            assert await serious_faults(page) == []
            await sign_in(page, key)
            await make(page, f"{PROMPT} sandbox:instant")
            video = page.get_by_role("region", name="Job").locator("video")
            await expect(video).to_have_js_property("readyState", 4)
            assert await video.evaluate("video => video.paused")
            await expect(page.get_by_role("region", name="History")).to_be_visible()
            assert await serious_faults(page) == []
            await (
                page.get_by_role("button", name=re.compile("Change"))
                .or_(page.get_by_role("button", name=re.compile("Seedance")))
                .first.click()
            )
            await expect(page.get_by_role("dialog")).to_be_visible()
            assert await serious_faults(page) == []
            assert await page.evaluate(OVERHANGS) == []
