"""`gateway models sync` as an operator meets it, with a RunComfy that is there, and then is not."""

from pathlib import Path

from tests.support.gateway import TOKEN
from tests.support.processes import Server, run
from tests.support.shelf import entry, shelf
from tests.support.wire_server import answer


async def test_a_read_by_hand_tells_what_changed_and_keeps_what_is_good(tmp_path: Path) -> None:
    async with shelf(entry(), {"model_id": "acme/broken/x"}) as upstream:
        environment = {"RUNCOMFY_API_TOKEN": TOKEN, "GATEWAY_UPSTREAM_URL": upstream.url}
        server = Server(("serve",), tmp_path / "gateway", "/healthz", environment)
        code, out, err = await run(server, "models", "sync")
        assert (code, out) == (0, "")
        assert err.splitlines()[-1] == "1 models: 1 new, 0 changed, 0 withdrawn, 1 skipped."

        for status, words, expected in ((503, "Come back later", 75), (403, "Not you", 2)):
            upstream.broken = answer(status, {"error_code": status * 1000, "error_message": words})
            code, out, err = await run(server, "models", "sync")
            assert (code, out) == (expected, "")
            assert err.splitlines()[-1] == (
                f"gateway: RunComfy's catalogue cannot be read; the last one stays: {words}"
            )
            assert TOKEN not in err

    # Plans and keys know the models that were read, without RunComfy.
    for model, known in (("acme/dream/text-to-video", True), ("bytedance/seedance-1-0", False)):
        code, _, err = await run(server, "keys", "create", "--user=alice", f"--model={model}")
        assert (code == 0) is known, err
