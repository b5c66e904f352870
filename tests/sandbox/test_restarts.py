"""What outlives the process, and how it starts and stops."""

import socket
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from app.core.clock import ManualClock
from app.core.errors import ConfigurationError
from app.sandbox import SandboxConfig, running_sandbox
from tests.sandbox.caller import Sandbox, client
from tests.support.processes import free_port

CHECKOUT = Path(__file__).parents[2]


async def test_jobs_go_on_where_the_clock_is(config: SandboxConfig) -> None:
    clock = ManualClock()
    async with running_sandbox(config, clock=clock) as base, client(base) as http:
        first = Sandbox(http, clock)
        done = await first.submit("sandbox:queue=5 sandbox:slow=5")
        cancelled = await first.submit()
        faulty = await first.submit("sandbox:instant sandbox:poll-504=2")
        await first.cancel(cancelled)
        assert (await first.status(faulty)).status_code == 504
    clock.advance(timedelta(seconds=10))
    async with running_sandbox(config, clock=clock) as base, client(base) as http:
        second = Sandbox(http, clock)
        assert (await second.result(done)).json()["status"] == "succeeded"
        assert (await second.status(cancelled)).json()["status"] == "cancelled"
        assert [(await second.status(faulty)).status_code for _ in "12"] == [504, 200]


async def test_a_killed_sandbox_loses_no_request(tmp_path: Path) -> None:
    """Kill the process without warning, right after its answer."""
    program = (
        "import asyncio, sys, pathlib\n"
        "from app.sandbox import SandboxConfig, running_sandbox\n"
        "async def main():\n"
        "    async with running_sandbox(SandboxConfig(pathlib.Path(sys.argv[1]))) as base:\n"
        "        print(base, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    (tmp_path / "port").write_text(str(free_port()))  # which nobody else is given meanwhile
    bases = []
    request_id = ""
    for _ in range(2):
        async with await anyio.open_process(command, stderr=None, cwd=CHECKOUT) as process:
            assert process.stdout
            bases.append((await process.stdout.receive()).decode().strip())
            async with client(bases[-1]) as http:
                sandbox = Sandbox(http, ManualClock())
                request_id = request_id or await sandbox.submit()
                assert (await sandbox.status(request_id)).status_code == 200
            process.kill()
    assert bases[0] == bases[1]


async def test_the_port_is_remembered(config: SandboxConfig) -> None:
    port = free_port()
    async with running_sandbox(config, port=port) as first:
        pass
    async with running_sandbox(config) as second:
        assert second == first
    with socket.create_server(("127.0.0.1", port)):
        async with running_sandbox(config) as third:
            assert third != first
    async with running_sandbox(config) as fourth:
        assert fourth == first


async def test_a_port_that_is_asked_for_is_had_or_refused(config: SandboxConfig) -> None:
    port = free_port()
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(ConfigurationError, match="in use"),
    ):
        async with running_sandbox(config, port=port):
            pass
    async with running_sandbox(config, port=port) as base:
        assert base == f"http://127.0.0.1:{port}"


async def test_it_can_be_had_on_ipv6(config: SandboxConfig) -> None:
    async with running_sandbox(config, host="::1", port=0) as base, client(base) as http:
        sandbox = Sandbox(http, ManualClock())
        answer = (await sandbox.post(sandbox.input("sandbox:instant"))).json()
        assert answer["status_url"].startswith(f"{base}/v1/requests/")
        assert base.startswith("http://[::1]:")


async def test_an_error_in_the_block_arrives_as_it_was(config: SandboxConfig) -> None:
    with pytest.raises(ZeroDivisionError):
        async with running_sandbox(config, port=0):
            _ = 1 / 0


async def stages(config: SandboxConfig) -> list[str]:
    """Note where three jobs stand, each second for ten."""
    clock = ManualClock()
    async with running_sandbox(config, port=0, clock=clock) as base, client(base) as http:
        sandbox = Sandbox(http, clock)
        ids = [await sandbox.submit() for _ in range(3)]
        words = []
        for _ in range(10):
            sandbox.wait(1)
            words += [(await sandbox.status(request_id)).json()["status"] for request_id in ids]
        return words


async def test_times_follow_the_seed(tmp_path: Path) -> None:
    one, same, other = [
        await stages(SandboxConfig(tmp_path / str(n), seed=seed))
        for n, seed in enumerate((1, 1, 2))
    ]
    assert one == same
    assert one != other


async def test_speed_divides_every_wait(config: SandboxConfig) -> None:
    clock = ManualClock()
    fast = replace(config, speed=10)
    async with running_sandbox(fast, port=0, clock=clock) as base, client(base) as http:
        sandbox = Sandbox(http, clock)
        request_id = await sandbox.submit("sandbox:queue=10 sandbox:slow=20")
        words = []
        for wait in (0.9, 0.1, 1.9, 0.1):
            sandbox.wait(wait)
            words.append((await sandbox.status(request_id)).json()["status"])
    assert words == ["in_queue", "in_progress", "in_progress", "completed"]


@pytest.mark.parametrize("speed", [0, -1])
def test_a_speed_is_above_zero(tmp_path: Path, speed: float) -> None:
    with pytest.raises(ValueError, match="above zero"):
        SandboxConfig(tmp_path, speed=speed)


def test_the_token_is_not_shown(tmp_path: Path) -> None:
    assert "secret" not in repr(SandboxConfig(tmp_path, token="secret"))


@pytest.mark.parametrize("missing", ["av", "PIL"])
def test_without_the_extra_the_command_to_install_it_is_told(missing: str, tmp_path: Path) -> None:
    program = (
        f"import sys, pathlib; sys.modules[{missing!r}] = None\n"
        "from app.core.errors import ConfigurationError\n"
        "from app.sandbox import SandboxConfig, create_sandbox\n"
        "try: create_sandbox(SandboxConfig(pathlib.Path(sys.argv[1])))\n"
        "except ConfigurationError as error: print(error)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    told = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, check=True)
    assert "pip install 'runcomfy-gateway[sandbox]'" in told.stdout
