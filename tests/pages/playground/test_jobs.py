"""The job in view and those in the history: how far they are, and what came of them."""

import asyncio
import re

import httpx
from playwright.async_api import Browser, Page, Request, Route, expect

from tests.support.browser import drawn, requests_of, serious_faults
from tests.support.playground import PROMPT, Directory, fill_in, make, sign_in, visiting


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
        await expect(form).to_contain_text("Jobs per day is used up")
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


async def test_limits_that_an_operator_changed_are_shown_as_a_job_meets_them(
    site: str, directory: Directory, browser: Browser
) -> None:
    key = await directory.key("uma", limits={"jobs_per_day": 9})
    async with directory.nothing_sent(), visiting(browser, site, allow="429") as page:
        await sign_in(page, key)
        await make(page, PROMPT)
        await expect(page.get_by_text("8 of 9 left")).to_be_visible()
        tighter = {"limits": {"jobs_per_day": {"limit": 1}}}
        await directory.http.patch("/v1/admin/users/uma", json=tighter)
        await page.get_by_role("button", name="Make it").click()
        await expect(page.get_by_role("alert")).to_contain_text("jobs_per_day")
        await expect(page.get_by_text("0 of 1 left")).to_be_visible()
        await expect(page.get_by_role("form")).to_contain_text("Jobs per day is used up")


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
