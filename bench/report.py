"""Tables in Markdown: printed as they come, and kept."""

import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

_SHOWN = ("fastapi", "uvicorn", "sqlalchemy", "httpx", "aiohttp")


@dataclass(slots=True)
class Report:
    lines: list[str] = field(default_factory=list)

    def say(self, line: str = "") -> None:
        print(line, flush=True)
        self.lines.append(line)

    def table(self, head: str, rows: Sequence[str]) -> None:
        columns = head.count("|") + 1
        for row in (head, " | ".join(["---"] + ["--:"] * (columns - 1)), *rows):
            self.say(f"| {row} |")
        self.say()

    def keep(self, path: Path) -> None:
        path.write_text("\n".join(self.lines).rstrip("\n") + "\n")


def machine() -> str:
    cpus = Path("/proc/cpuinfo").read_text().split("model name")
    model = cpus[1].partition(":")[2].partition("\n")[0].strip() if len(cpus) > 1 else "unknown"
    return f"{len(cpus) - 1} x {model}, {platform.system()} {platform.release()}"


def versions() -> str:
    ours = ", ".join(f"{name} {version(name)}" for name in _SHOWN)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    own = commit or version("runcomfy-gateway")
    return f"gateway {own}, Python {platform.python_version()}, {ours}"
