"""Pictures drawn from nothing: the sample for demos, and a first frame where none is given."""

import io
import math
import random
import textwrap

from PIL import Image, ImageDraw, ImageFilter, ImageFont

Colour = tuple[int, int, int]

_SKY: list[Colour] = [(38, 26, 84), (122, 48, 120), (226, 98, 96), (255, 184, 108), (255, 226, 160)]
_FAR: Colour = (150, 84, 124)
_NEAR: Colour = (24, 18, 46)
_HILLS = 5
_SUNSET = (1280, 720)


def sunset() -> Image.Image:
    """Paint a low sun over hills that darken towards us; the same picture every time."""
    picture = _gradient(_SUNSET, _SKY)
    _shine(picture)
    width, height = picture.size
    brush = ImageDraw.Draw(picture)
    draw = random.Random(7)  # noqa: S311 - hills hide no secrets
    for hill in range(_HILLS):
        near = hill / (_HILLS - 1)
        ridge = _ridge(width, height * (0.6 + 0.32 * near), height * 0.07, draw)
        brush.polygon([(0, height), *ridge, (width, height)], fill=_mix(_FAR, _NEAR, near))
    return picture


def title_card(text: str, size: tuple[int, int]) -> Image.Image:
    """Put a prompt's first words on a gradient whose colours follow from them."""
    draw = random.Random(text)  # noqa: S311 - colours hide no secrets
    top: Colour = (draw.randrange(120), draw.randrange(120), draw.randrange(120, 220))
    bottom: Colour = (draw.randrange(120, 230), draw.randrange(90, 200), draw.randrange(120))
    picture = _gradient(size, [top, bottom])
    words = textwrap.fill(textwrap.shorten(text, 120, placeholder=" ..."), 24) or "sandbox"
    font = ImageFont.load_default(min(size) / 12)
    middle = (size[0] / 2, size[1] / 2)
    brush = ImageDraw.Draw(picture)
    brush.multiline_text(middle, words, "white", font=font, anchor="mm", align="center")
    return picture


def scene(turn: int) -> bytes:
    """Return the sunset as a JPEG, its hues turned by so many 256ths of the circle."""
    hue, saturation, value = sunset().convert("HSV").split()
    turned = hue.point([(level + turn) % 256 for level in range(256)])
    content = io.BytesIO()
    Image.merge("HSV", (turned, saturation, value)).convert("RGB").save(content, "JPEG")
    return content.getvalue()


def _gradient(size: tuple[int, int], colours: list[Colour]) -> Image.Image:
    column = Image.new("RGB", (1, len(colours)))
    column.putdata(colours)
    return column.resize(size, Image.Resampling.BICUBIC)


def _shine(picture: Image.Image) -> None:
    width, height = picture.size
    centre, radius = (width * 0.62, height * 0.56), height * 0.09
    light = Image.new("L", picture.size)
    brush = ImageDraw.Draw(light)
    brush.circle(centre, radius * 2.2, fill=120)
    light = light.filter(ImageFilter.GaussianBlur(radius))
    ImageDraw.Draw(light).circle(centre, radius, fill=245)
    picture.paste((255, 244, 214), (0, 0), light.filter(ImageFilter.GaussianBlur(1.5)))


def _ridge(
    width: int, level: float, swing: float, draw: random.Random
) -> list[tuple[float, float]]:
    waves = [(swing / (n + 1), n + draw.random(), draw.uniform(0, math.tau)) for n in range(4)]
    return [
        (x, level - sum(a * math.sin(f * math.tau * x / width + p) for a, f, p in waves))
        for x in range(0, width + 4, 4)
    ]


def _mix(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue
