"""`gateway models sync` as an operator meets it, with a RunComfy that is there, and then is not."""

from asyncio import to_thread

from tests.support.commands import Command
from tests.support.gateway import TOKEN
from tests.support.shelf import entry, shelf
from tests.support.wire_server import answer


async def test_a_read_by_hand_tells_what_changed_and_keeps_what_is_good(command: Command) -> None:
    async with shelf(entry(), {"model_id": "acme/broken/x"}) as upstream:
        settings = {"RUNCOMFY_API_TOKEN": TOKEN, "GATEWAY_UPSTREAM_URL": upstream.url}
        done = await to_thread(command, "models", "sync", settings=settings)
        assert (done.code, done.stdout) == (0, "")
        assert done.stderr.splitlines()[-1] == (
            "1 models: 1 new, 0 changed, 0 withdrawn, 1 skipped."
        )

        for status, words, expected in ((503, "Come back later", 75), (403, "Not you", 2)):
            upstream.broken = answer(status, {"error_code": status * 1000, "error_message": words})
            done = await to_thread(command, "models", "sync", settings=settings)
            assert (done.code, done.stdout) == (expected, "")
            assert done.stderr.splitlines()[-1] == (
                f"gateway: RunComfy's catalogue cannot be read; the last one stays: {words}"
            )
            assert TOKEN not in done.stderr

    # Plans and keys know the models that were read, without RunComfy.
    for model, known in (("acme/dream/text-to-video", True), ("bytedance/seedance-1-0", False)):
        make = ("keys", "create", "--user=alice", f"--model={model}")
        done = await to_thread(command, *make, settings=settings)
        assert (done.code == 0) is known, done.stderr
