"""The form of a model: its fields and pictures, what is said of them, and what is sent."""

import asyncio
import re
from pathlib import Path

from playwright.async_api import Browser, expect

from tests.support.browser import answered_after, drawn, requests_of, serious_faults
from tests.support.playground import (
    PROMPT,
    Directory,
    Schema,
    choose,
    fill_in,
    make,
    model_with,
    picture,
    sign_in,
    visiting,
)


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
        faulty = page.get_by_role("textbox", name="audio url: URL")
        for typed, meant in (("2.5", 2.5), ("12.05", 12.05), ("1e1", 10)):
            await scale.fill("")
            await scale.press_sequentially(typed)
            async with page.expect_request("**/v1/jobs") as made:
                await page.get_by_role("button", name="Make it").click()
            assert (await made.value).post_data_json["input"]["guidance_scale"] == meant
            await expect(scale).to_have_value(typed)
            # Which is empty: once that is refused, the focus moves there, not while more is typed.
            await expect(faulty).to_be_focused()


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
