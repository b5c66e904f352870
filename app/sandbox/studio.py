"""Output files on disk: each made once, when somebody first asks for it, off the event loop."""

import functools
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import anyio.to_thread

from app.sandbox import frames, outputs, painting, render
from app.sandbox.records import Record


class Studio:
    """One picture or film is made at a time, lest a crowd of viewers overload the machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._busy = anyio.Lock()

    async def output(
        self, record: Record, name: str, *, has_left: Callable[[], Awaitable[bool]]
    ) -> Path | None:
        """Return None if the viewer `has_left` while others' files were made."""
        path = self._folder / f"{record.request_id}-{name}"
        if path.exists():
            return path
        found = await frames.candidates(record.input)
        async with self._busy:
            if not path.exists():
                if await has_left():
                    return None
                make = functools.partial(_make, path, record, found)
                await anyio.to_thread.run_sync(make)
        return path

    async def sample(self) -> Path:
        path = self._folder / "first-frame.jpg"
        async with self._busy:
            if not path.exists():
                await anyio.to_thread.run_sync(_paint_sample, path)
        return path


def _make(path: Path, record: Record, found: list[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    render.render(
        path,
        found=found,
        prompt=str(record.input.get("prompt") or record.model_id),
        shape=outputs.shape_of(record.input),
    )


def _paint_sample(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    painting.sunset().save(unfinished, "JPEG", quality=88)
    unfinished.replace(path)
