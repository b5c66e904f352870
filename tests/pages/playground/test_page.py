"""The playground as people use it: a real browser, a running gateway, the sandbox's films."""

import asyncio
import re
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, Page, Route, expect

from tests.support.browser import DESKTOP, PHONE, answered_after, drawn, requests_of, serious_faults
from tests.support.playground import (
    PROMPT,
    Directory,
    choose,
    enter,
    fill_in,
    is_check_of,
    make,
    sign_in,
    upload,
    visiting,
)

TOO_SMALL = "The uploaded image width and height must not be less than 300 pixels."
PLAYS = "video => !video.paused && video.currentTime > 0.2"
OVERHANGS = """[...document.querySelectorAll("body *")]
    .filter(each => document.documentElement.scrollWidth > innerWidth
        && each.getBoundingClientRect().right > innerWidth)
    .map(each => each.outerHTML.slice(0, 120))"""


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
        await expect(form.get_by_text("Spend per day: $20.00 left")).to_be_visible()
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
        await expect(form.get_by_text("Jobs per day: 9 left")).to_be_visible()

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
            async with page.expect_response("**/v1/jobs"):  # the alert may still be the last one's
                await button.click()
            alert = page.get_by_role("form").get_by_role("alert")
            await expect(alert).to_contain_text("The gateway cannot be reached.")
        assert len(keys) == 2
        assert len(set(keys)) == 1


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
