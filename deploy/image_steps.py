"""Runs the steps of the Dockerfile's first stage without a container engine, in another root.

    python deploy/image_steps.py ROOT              like the image: everything from the registry
    python deploy/image_steps.py ROOT --linked     quick: with this Python's packages

The image's /opt/gateway is then in ROOT/opt/gateway.
"""

import argparse
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
INSTALLED = "/opt/gateway"
DEPENDENCIES = f"deploy/install.sh {INSTALLED} dependencies"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--linked", action="store_true", help="use the packages of this Python")
    options = parser.parse_args()
    build(options.root.resolve(), linked=options.linked)


def build(root: Path, *, linked: bool) -> None:
    """Carry out COPY and RUN of the first stage below `root`."""
    folder = root
    for name, arguments in steps((CHECKOUT / "Dockerfile").read_text()):
        match name:
            case "FROM":
                pass
            case "WORKDIR":
                folder = root / arguments.lstrip("/")
                folder.mkdir(parents=True)
            case "COPY":
                *sources, target = shlex.split(arguments)
                copy(sources, folder / target, into=target.endswith("/"))
            case "RUN" if linked and arguments == DEPENDENCIES:
                link(root / INSTALLED.lstrip("/"))
            case "RUN":
                run(arguments, root=root, folder=folder, linked=linked)
            case _:
                raise NotImplementedError(f"the Dockerfile's {name} is not known here")


def steps(dockerfile: str) -> Iterator[tuple[str, str]]:
    """Yield instruction and arguments of each step of the first stage."""
    text = re.sub(r"^#.*\n", "", dockerfile, flags=re.MULTILINE)
    stages = 0
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        name, _, arguments = line.strip().partition(" ")
        stages += name == "FROM"
        if stages == 1 and name:
            yield name, arguments


def copy(sources: list[str], target: Path, *, into: bool) -> None:
    for source in sources:
        path = CHECKOUT / source
        if not is_sent(source):
            raise FileNotFoundError(f".dockerignore keeps {source} from the engine")
        if path.is_dir():
            shutil.copytree(path, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            place = target / path.name if into else target
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, place)


def is_sent(path: str) -> bool:
    """Return whether a path is in the build's context: the last line that matches it decides."""
    sent = True
    for line in (CHECKOUT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if fnmatch(path, pattern) or path.startswith(f"{pattern}/"):
            sent = line.startswith("!")
    return sent


def run(command: str, *, root: Path, folder: Path, linked: bool) -> None:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "VIRTUAL_ENV", "GATEWAY_", "RUNCOMFY_"))
    }
    environment["PYTHON"] = sys.executable
    if linked and importlib.util.find_spec("hatchling"):  # older environments lack it
        environment["BUILDER"] = sys.executable
    here = command.replace(INSTALLED, f"{root}{INSTALLED}")
    subprocess.run(["/bin/sh", "-c", here], cwd=folder, env=environment, check=True)


def link(folder: Path) -> None:
    """Make the environment of installed dependencies out of this Python's own."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = folder / "lib" / version / "site-packages"
    found = [path for path in sys.path if Path(path).name == "site-packages"]
    (site / "linked.pth").write_text("\n".join(found))


if __name__ == "__main__":
    main()
