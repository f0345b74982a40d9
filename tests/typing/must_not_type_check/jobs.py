"""Jobs whose steps do not fit: each marked line is an error, for both type checkers, and no other line is."""

from __future__ import annotations

from anybroker import App, Retry

app = App("memory://")


def download(url: str, size: int = 1) -> bytes:
    return url.encode() * size


async def download_slowly(url: str) -> bytes:
    return url.encode()


def measure(data: bytes) -> float:
    return float(len(data))


async def measure_slowly(data: bytes) -> float:
    return float(len(data))


def split(ratio: float) -> list[int]:
    return [int(ratio)]


async def split_slowly(ratio: float) -> list[int]:
    return [int(ratio)]


def index(numbers: list[int]) -> dict[str, int]:
    return {str(number): number for number in numbers}


def of_two(data: bytes, more: bytes) -> None:
    pass


app.job("a").step(download).step(split)  # E
app.job("b").step(download_slowly).step(split_slowly)  # E
app.job("c").step(download_slowly).step(split)  # E
app.job("d").step(download).step(split_slowly)  # E
app.job("e").step(download).step(measure).step(index)  # E
app.job("f").step(download).step(measure).step(split).step(measure)  # E
app.job("g").step(download).step(of_two)  # E
app.job("h").step(download).step(measure, retry=3)  # E
app.job("i").step(download, timeout="x").step(measure)  # E
app.job("j").step(download, retrie=Retry(max=1))  # E
app.job("k", quee="q").step(download)  # E
app.job(download).step(measure)  # E
app.job("l").send("x")  # E

job = app.job("job").step(download).step(measure_slowly)
job.send(1)  # E
job.send()  # E
job.send("x", size="1")  # E
job.send("x", 1, 2)  # E
job.s(b"x")  # E
job.options(delay=1).send(1)  # E
number: int = job.send("x").get()  # E
job("x")  # E
