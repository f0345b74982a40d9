"""Paints landscapes, so that the demo has pictures to work on and nothing has to be downloaded."""

from __future__ import annotations

import math
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image, ImageChops, ImageDraw, ImageOps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

WIDTH, HEIGHT = 1600, 1200
HORIZON = 660

Colour = tuple[int, int, int]
House = tuple[int, int, int]
"""Left, top, width."""


class Light(NamedTuple):
    """The colours of a time of day."""

    name: str
    sky: tuple[Colour, ...]
    """From the zenith down to the horizon."""
    sun: Colour
    near: Colour
    """What is close has this colour; the further away, the more it takes on that of the horizon."""


LIGHTS = (
    Light("dawn", ((48, 52, 104), (146, 98, 140), (244, 152, 128), (255, 214, 165)), (255, 240, 210), (38, 30, 58)),
    Light(
        "morning", ((66, 126, 190), (136, 188, 224), (214, 232, 236), (250, 240, 214)), (255, 250, 225), (26, 56, 62)
    ),
    Light("noon", ((30, 104, 184), (88, 160, 218), (168, 212, 236), (222, 240, 246)), (255, 255, 240), (22, 66, 44)),
    Light("sunset", ((56, 36, 92), (160, 58, 98), (236, 108, 74), (255, 188, 96)), (255, 226, 150), (44, 18, 44)),
    Light("dusk", ((18, 24, 62), (48, 52, 112), (110, 84, 142), (218, 134, 138)), (255, 210, 190), (14, 14, 38)),
    Light("night", ((6, 10, 30), (12, 26, 60), (26, 52, 92), (58, 96, 126)), (232, 238, 250), (4, 10, 24)),
)
DARK = ("dusk", "night")


def paint(directory: Path, number: int) -> Path:
    """Paint picture ``number`` into a file, and return its path. The same number gives the same picture."""
    random = Random(number)
    name, scene = SCENES[number % len(SCENES)]
    light = LIGHTS[number // len(SCENES) % len(LIGHTS)]
    path = directory / f"{number:02} {name.format(light=light.name)}.png"
    scene(random, light).save(path, compress_level=1)
    return path


def _mountains(random: Random, light: Light) -> Image.Image:
    picture = _sky(random, light)
    for layer in range(6):
        depth = layer / 5
        line = _ridge(random, 520 + 120 * layer, 330 - 36 * layer, roughness=0.52)
        _fill_below(picture, line, _mix(light.sky[-1], light.near, 0.2 + 0.8 * depth**0.8))
    return picture


def _lake(random: Random, light: Light) -> Image.Image:
    picture = _sky(random, light)
    for layer in range(3):
        line = _ridge(random, 470 + 70 * layer, 300 - 70 * layer, roughness=0.5)
        _fill_below(picture, line, _mix(light.sky[-1], light.near, 0.35 + 0.3 * layer))
    mirrored = ImageOps.flip(picture.crop((0, 2 * HORIZON - HEIGHT, WIDTH, HORIZON)))
    blurred = mirrored.resize((WIDTH, 45), Image.Resampling.BOX).resize(mirrored.size, Image.Resampling.BICUBIC)
    water = Image.new("RGB", mirrored.size, _mix(light.near, light.sky[0], 0.5))
    picture.paste(Image.blend(blurred, water, 0.25), (0, HORIZON))
    _glitter(random, picture, light.sky[-1], WIDTH // 2, spread=WIDTH)
    return picture


def _sea(random: Random, light: Light) -> Image.Image:
    centre = random.randrange(WIDTH // 4, 3 * WIDTH // 4)
    picture = _sky(random, light, sun=(centre, HORIZON - random.randrange(30, 190)))
    water = _gradient((_mix(light.sky[-1], light.near, 0.3), _mix(light.sky[0], light.near, 0.4), light.near))
    picture.paste(water.resize((WIDTH, HEIGHT - HORIZON)), (0, HORIZON))
    _glitter(random, picture, light.sun, centre, spread=260)
    left, length = random.randrange(-200, WIDTH - 200), random.randrange(320, 700)
    coast = _ridge(random, 0, 1, roughness=0.45)
    island = [
        (left + length * x / WIDTH, HORIZON + y * length / 5 * math.sin(math.pi * x / WIDTH)) for x, y in coast if y < 0
    ]
    shape = [(left, HORIZON), *island, (left + length, HORIZON)]
    ImageDraw.Draw(picture).polygon(shape, fill=_mix(light.sky[-1], light.near, 0.6))
    return picture


def _dunes(random: Random, light: Light) -> Image.Image:
    picture = _sky(random, light)
    sand = _mix((226, 158, 92), light.near, 0.6 if light.name in DARK else 0.1)
    for layer in range(5):
        crest = [(x, y + 130 * layer) for x, y in _wave(random, 600, 90)]
        _fill_below(picture, crest, _mix(light.sky[-1], sand, 0.35 + 0.16 * layer))
        shadow = [(x, y + 26 + 60 * (1 + math.sin(x / 190 + layer))) for x, y in crest]
        _fill_below(picture, shadow, _mix(_mix(light.sky[-1], sand, 0.4 + 0.15 * layer), light.near, 0.22))
    return picture


def _forest(random: Random, light: Light) -> Image.Image:
    picture = _sky(random, light)
    draw = ImageDraw.Draw(picture)
    for layer in range(5):
        colour = _mix(light.sky[-1], _mix(light.near, (12, 60, 44), 0.35), 0.25 + 0.18 * layer)
        line = _wave(random, 560 + 125 * layer, 60)
        _fill_below(picture, line, colour)
        size = 46 + 34 * layer
        for x, y in line[:: max(1, size // 22)]:
            _fir(draw, (x + random.uniform(-9, 9), y + 14), size * random.uniform(0.7, 1.5), colour)
    return picture


def _city(random: Random, light: Light) -> Image.Image:
    picture = _sky(random, light)
    draw = ImageDraw.Draw(picture)
    lit = 0.5 if light.name in DARK else 0.12
    for layer in range(3):
        colour = _mix(light.sky[-1], light.near, 0.4 + 0.28 * layer)
        x = -20
        while x < WIDTH:
            width = random.randrange(70, 150)
            top = 420 + 150 * layer + int(random.betavariate(2, 2) * 330)
            draw.rectangle((x, top, x + width, HEIGHT), fill=colour)
            if random.random() < 0.2:
                draw.line((x + width // 2, top - random.randrange(30, 90), x + width // 2, top), fill=colour, width=4)
            _windows(random, draw, (x, top, width), _mix(colour, (255, 212, 128), 0.35 + 0.3 * layer), lit)
            x += width + random.randrange(-10, 26)
    return picture


def _northern_lights(random: Random, light: Light) -> Image.Image:
    night = LIGHTS[-1]
    picture = _sky(random, night, sun=None)
    curtain = ImageChops.multiply(_noise(random, (26, 2), 3), _noise(random, (4, 3), 2))
    fading = _gradient(((0, 0, 0), (120, 120, 120), (255, 255, 255), (150, 150, 150), (0, 0, 0))).convert("L")
    veil = ImageOps.autocontrast(curtain).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    strength = ImageChops.multiply(veil.point(lambda v: max(0, v - 40) * 255 // 215), fading)
    tint = _mix((70, 255, 150), light.sky[1], 0.35)
    picture = ImageChops.screen(picture, ImageOps.colorize(strength, (0, 0, 0), tint, mid=_mix((0, 0, 0), tint, 0.5)))
    for layer in range(3):
        line = _ridge(random, 850 + 110 * layer, 200 - 40 * layer, roughness=0.5)
        _fill_below(picture, line, _mix((22, 46, 70), night.near, 0.4 + 0.3 * layer))
    return picture


def _nebula(random: Random, light: Light) -> Image.Image:
    first, second = (ImageOps.autocontrast(_noise(random, (3, 2), 6)).resize((WIDTH, HEIGHT)) for _ in range(2))
    black, amber, blue = (0, 0, 0), (226, 150, 118), (96, 136, 226)
    warm = ImageOps.colorize(first, black, amber, mid=_mix(black, light.sky[-2], 0.35), blackpoint=105)
    cold = ImageOps.colorize(second, (4, 4, 16), blue, mid=_mix(black, light.sky[1], 0.3), blackpoint=110)
    picture = ImageChops.screen(warm, cold)
    _stars(random, picture, 900, HEIGHT)
    return picture


SCENES: tuple[tuple[str, Callable[[Random, Light], Image.Image]], ...] = (
    ("mountains at {light}", _mountains),
    ("sea at {light}", _sea),
    ("forest at {light}", _forest),
    ("northern lights", _northern_lights),
    ("dunes at {light}", _dunes),
    ("lake at {light}", _lake),
    ("city at {light}", _city),
    ("nebula", _nebula),
)


def _sky(random: Random, light: Light, sun: tuple[int, int] | None = (0, 0)) -> Image.Image:
    """The sky down to the horizon and beyond, with stars at night; the sun is at ``sun``, (0, 0): anywhere."""
    picture = _gradient(light.sky).resize((WIDTH, HORIZON + 80))
    sky = Image.new("RGB", (WIDTH, HEIGHT), light.sky[-1])
    sky.paste(picture)
    if light.name in DARK:
        _stars(random, sky, 420, HORIZON - 120)
    if sun is not None:
        x, y = sun if any(sun) else (random.randrange(200, WIDTH - 200), random.randrange(180, 470))
        _glow(sky, (x, y), 640, light.sun, 0.6)
        radius = 44 if light.name in DARK else 62
        ImageDraw.Draw(sky).ellipse((x - radius, y - radius, x + radius, y + radius), fill=light.sun)
    return sky


def _gradient(colours: Sequence[Colour]) -> Image.Image:
    column = Image.new("RGB", (1, len(colours)))
    column.putdata(list(colours))
    return column.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


def _glow(picture: Image.Image, centre: tuple[int, int], radius: int, colour: Colour, strength: float) -> None:
    falloff = Image.radial_gradient("L").point(lambda v: int(max(0, 255 - v * math.sqrt(2)) ** 2 / 255 * strength))
    mask = falloff.resize((2 * radius, 2 * radius), Image.Resampling.BICUBIC)
    picture.paste(colour, (centre[0] - radius, centre[1] - radius), mask)


def _stars(random: Random, picture: Image.Image, count: int, below: int) -> None:
    draw = ImageDraw.Draw(picture)
    for _ in range(count):
        x, y, size = random.randrange(WIDTH), random.randrange(below), random.expovariate(1)
        brightness = random.randrange(130, 256)
        draw.ellipse((x, y, x + 1 + size, y + 1 + size), fill=(brightness, brightness, min(255, brightness + 20)))


def _glitter(random: Random, picture: Image.Image, colour: Colour, centre: int, *, spread: int) -> None:
    draw = ImageDraw.Draw(picture, "RGBA")
    for _ in range(520):
        y = HORIZON + 4 + (HEIGHT - HORIZON) * random.random() ** 1.6
        nearness = (y - HORIZON) / (HEIGHT - HORIZON)
        x, half = random.gauss(centre, spread * (0.12 + 0.35 * nearness)), 8 + 60 * nearness * random.random()
        alpha = int(random.uniform(30, 150) * (1 - 0.6 * nearness))
        draw.line((x - half, y, x + half, y), fill=(*colour, alpha), width=1 + int(4 * nearness))


def _ridge(random: Random, level: float, height: float, *, roughness: float) -> list[tuple[float, float]]:
    """A mountain range from left to right, by midpoint displacement."""
    heights = [random.random(), random.random(), random.random()]
    scale = 0.5
    while len(heights) < WIDTH // 6:
        between = [(a + b) / 2 + random.uniform(-scale, scale) for a, b in pairwise(heights)]
        heights = [y for pair in zip(heights, between, strict=False) for y in pair] + heights[-1:]
        scale *= roughness
    step = WIDTH / (len(heights) - 1)
    return [(index * step, level - height * value) for index, value in enumerate(heights)]


def _wave(random: Random, level: float, height: float) -> list[tuple[float, float]]:
    """Soft hills from left to right."""
    waves = [(random.uniform(200, 520) / (1 + i), random.uniform(0, 6), 0.6**i) for i in range(3)]
    total = sum(weight for _, _, weight in waves)
    return [
        (x, level + height * sum(weight * math.sin(x / length + phase) for length, phase, weight in waves) / total)
        for x in range(0, WIDTH + 8, 8)
    ]


def _fill_below(picture: Image.Image, line: Sequence[tuple[float, float]], colour: Colour) -> None:
    ImageDraw.Draw(picture).polygon([*line, (WIDTH, HEIGHT), (0, HEIGHT)], fill=colour)


def _fir(draw: ImageDraw.ImageDraw, foot: tuple[float, float], size: float, colour: Colour) -> None:
    x, y = foot
    for tier in range(4):
        top, half = y - size * (1 - 0.2 * tier), size * (0.09 + 0.07 * tier)
        draw.polygon([(x, top), (x - half, top + size * 0.4), (x + half, top + size * 0.4)], fill=colour)


def _windows(random: Random, draw: ImageDraw.ImageDraw, house: House, colour: Colour, lit: float) -> None:
    left, top, width = house
    for y in range(top + 18, HEIGHT, 30):
        for x in range(left + 12, left + width - 14, 22):
            if random.random() < lit:
                draw.rectangle((x, y, x + 9, y + 14), fill=colour)


def _noise(random: Random, cells: tuple[int, int], octaves: int) -> Image.Image:
    """Clouds, so many across and down: noise of several sizes, each half as strong as the one before it."""
    across, down = cells
    clouds = Image.new("L", (WIDTH // 4, HEIGHT // 4), 128)
    for octave in range(octaves):
        grain = Image.frombytes("L", (across, down), random.randbytes(across * down))
        weaker = [128 + (value - 128) // 2 ** (octave + 1) for value in range(256)]
        grain = grain.resize(clouds.size, Image.Resampling.BICUBIC).point(weaker)
        clouds = ImageChops.add(clouds, grain, offset=-128)
        across, down = 2 * across, 2 * down
    return clouds


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    """``first`` where ``share`` is 0, ``second`` where it is 1."""
    share = min(max(share, 0.0), 1.0)
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue
