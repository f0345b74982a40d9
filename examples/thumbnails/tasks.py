"""The tasks of the demo: a job of three steps for every picture, and one task that puts them all on a sheet."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from anybroker import App
from anybroker.events import Acquired, Failed, Started, Succeeded

app = App()  # $ANYBROKER_URL says on which broker

THUMBNAIL = (300, 225)
PAPER, INK, FAINT = (248, 246, 241), (40, 40, 46), (140, 138, 132)
COLUMNS = 8


@dataclass(frozen=True)
class Picture:
    """What one step hands to the next, and what is stored in the broker between them."""

    title: str
    file: str
    """What has become of it so far."""


def normalise(source: str, directory: str) -> Picture:
    """Bring a picture of any shape and mode to one size and to its full range of tones."""
    path = Path(source)
    with Image.open(path) as opened:
        picture = ImageOps.fit(opened.convert("RGB"), (1280, 960), Image.Resampling.BICUBIC)
    picture = ImageOps.autocontrast(picture, preserve_tone=True)
    number, _, title = path.stem.partition(" ")
    file = _save(picture, Path(directory) / "normalised" / f"{number}.png")
    return Picture(title, file)


def shrink(picture: Picture) -> Picture:
    """Make the thumbnail."""
    with Image.open(picture.file) as opened:
        small = opened.resize(THUMBNAIL, Image.Resampling.LANCZOS, reducing_gap=3)
    small = small.filter(ImageFilter.UnsharpMask(radius=1, percent=60))
    file = Path(picture.file)
    return Picture(picture.title, _save(small, file.parent.parent / "small" / file.name))


def frame(picture: Picture) -> Picture:
    """Mount the thumbnail on card, with a caption below it."""
    width, height = THUMBNAIL
    card = Image.new("RGB", (width + 24, height + 50), (255, 255, 255))
    with Image.open(picture.file) as thumbnail:
        card.paste(thumbnail, (12, 12))
    draw = ImageDraw.Draw(card)
    draw.rectangle((0, 0, card.width - 1, card.height - 1), outline=(222, 219, 212))
    draw.text((card.width / 2, height + 31), picture.title, INK, ImageFont.load_default(17), anchor="mm")
    file = Path(picture.file)
    return Picture(picture.title, _save(card, file.parent.parent / "thumbnails" / file.name))


thumbnail = app.job("thumbnail", timeout=30).step(normalise).step(shrink).step(frame)


@app.task(timeout=60)
def contact_sheet(pictures: list[Picture], note: str, target: str) -> str:
    """Put the framed thumbnails on one sheet, in the order of their files; returns its path."""
    cards = [Image.open(picture.file) for picture in sorted(pictures, key=lambda one: one.file)]
    gap, top = 18, 130
    width, height = cards[0].width + gap, cards[0].height + gap
    columns = min(COLUMNS, len(cards))
    rows = -(-len(cards) // columns)
    sheet = Image.new("RGB", (columns * width + 3 * gap, rows * height + top + 2 * gap), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((2 * gap, 52), "anybroker", INK, ImageFont.load_default(46), anchor="lm")
    draw.text((2 * gap, 98), note, FAINT, ImageFont.load_default(22), anchor="lm")
    for index, card in enumerate(cards):
        row, column = divmod(index, columns)
        sheet.paste(card, (2 * gap + column * width, top + row * height))
        card.close()
    return _save(sheet, Path(target))


def _save(picture: Image.Image, path: Path) -> str:
    """Write a file whole or not at all: a task may run twice, even at the same time, and may be killed halfway."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{uuid4().hex}")
    picture.save(unfinished, "PNG", compress_level=1)
    unfinished.replace(path)
    return str(path)


def _note(event: Acquired | Failed | Started | Succeeded) -> None:
    """Add a line to the journal that the demo reads."""
    line = {
        "event": type(event).__name__,
        "task": event.task,
        "id": event.id,
        "process": os.getpid(),
        "deliveries": getattr(event, "delivery_count", None),
    }
    journal = os.open(os.environ["DEMO_JOURNAL"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(journal, json.dumps(line).encode() + b"\n")  # one write: lines of several processes do not mix
    os.close(journal)


if "DEMO_JOURNAL" in os.environ:
    for kind in (Acquired, Failed, Started, Succeeded):
        app.on(kind, _note)
