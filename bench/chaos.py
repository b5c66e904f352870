"""Three replicas, a worker, Postgres and the sandbox, killed at random while clients submit.

    python -m bench.chaos --minutes 5 --jobs 2000 [--sqlite] [--seed 7] [--keep DIR]

With `--sqlite` one process serves and works, on a file of its own. Some jobs name an uploaded file
or carry a data URI; on Postgres these are kept in rows.

The exit code is 1 when a job or its file was lost, sent twice or its end not announced, when the
ledger drifted, when something leaked into a log, when bytes of a file were left over, or when a
client got an answer, or upstream a picture, that it never should.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.support.chaos import rampage, reckon, world

SETTLES_WITHIN_S = 900


async def main(arguments: argparse.Namespace, folder: Path) -> int:
    async with world(folder, seed=arguments.seed, on_sqlite=arguments.sqlite) as at:
        await rampage(at, seconds=60 * arguments.minutes, jobs=arguments.jobs)
        tally = await reckon(at, within=SETTLES_WITHIN_S)
    print(f"seed {arguments.seed}\n\n| | |\n|---|--:|\n| jobs | {len(at.accepted)} |")
    for name, times in sorted((tally.ended + tally.seen).items()):
        print(f"| {name} | {times} |")
    for name in ("lost", "doubled", "drift", "unheard", "leaked", "strange"):
        print(f"| **{name}** | {len(getattr(tally, name))} |")
    for name, found in tally.faults.items():
        print(f"\n{name}:", *found[:20], sep="\n  ")
    return 1 if tally.faults else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--sqlite", action="store_true")
    parser.add_argument("--seed", type=int, default=4711)
    parser.add_argument("--keep", type=Path, help="where logs stay; else they are removed")
    given = parser.parse_args()
    if given.keep is not None:
        given.keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        sys.exit(asyncio.run(main(given, given.keep or Path(name))))
