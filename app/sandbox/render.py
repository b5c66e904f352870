"""Real output files: a slow camera move in H.264, a still picture, a quiet tone."""

import array
import io
import math
import wave
from pathlib import Path

import av
from PIL import Image, ImageOps

from app.sandbox.outputs import Shape
from app.sandbox.painting import title_card

_FPS = 24
_MOST_PIXELS = 60_000_000
_ROOM = 1.15  # the frame is fitted larger than the picture, which leaves the camera room to move
_TONE = 220.0
_SAMPLES = 16_000


def render(path: Path, *, found: list[bytes], prompt: str, shape: Shape) -> None:
    """Write the file that its suffix asks for; it appears whole or not at all.

    The first picture among what was found becomes the first frame; without any, one is drawn.
    """
    unfinished = path.with_suffix(".part")
    pictures = (_decode(data) for data in found)
    frame = next(filter(None, pictures), None) or title_card(prompt, shape.size(frame=(16, 9)))
    match path.suffix:
        case ".mp4":
            _video(unfinished, frame, shape)
        case ".png":
            ImageOps.fit(frame, shape.size(frame=frame.size)).save(unfinished, "PNG")
        case _:
            _tone(unfinished, shape.seconds)
    unfinished.replace(path)


def _decode(data: bytes) -> Image.Image | None:
    """Open what was fetched as a picture, if it is one of sane size."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                return None
            picture.draft("RGB", (1920, 1920))
            return ImageOps.exif_transpose(picture).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _video(path: Path, frame: Image.Image, shape: Shape) -> None:
    width, height = shape.size(frame=frame.size)
    scene = ImageOps.fit(frame, (round(width * _ROOM), round(height * _ROOM)))
    frames = round(shape.seconds * _FPS)
    options = {"preset": "ultrafast", "crf": "27", "g": str(_FPS * 2)}
    with av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as film:
        track = film.add_stream("libx264", rate=_FPS, options=options)
        track.width, track.height, track.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            view = _camera(scene.size, (width, height), number / frames)
            shot = scene.resize((width, height), Image.Resampling.BILINEAR, box=view)
            film.mux(track.encode(av.VideoFrame.from_image(shot)))  # type: ignore[no-untyped-call]
        film.mux(track.encode())


def _camera(
    scene: tuple[int, int], picture: tuple[int, int], progress: float
) -> tuple[float, float, float, float]:
    """Drift to the right while closing in, slow at both ends."""
    eased = (1 - math.cos(math.pi * progress)) / 2
    reach = _ROOM - (_ROOM - 1) * eased
    width, height = min(picture[0] * reach, scene[0]), min(picture[1] * reach, scene[1])
    left, top = (scene[0] - width) * (0.5 + 0.4 * eased), (scene[1] - height) / 2
    return left, top, left + width, top + height


def _tone(path: Path, seconds: float) -> None:
    count = round(seconds * _SAMPLES)
    wavy = (round(900 * math.sin(math.tau * _TONE * n / _SAMPLES)) for n in range(count))
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(_SAMPLES)
        sound.writeframes(array.array("h", wavy).tobytes())
