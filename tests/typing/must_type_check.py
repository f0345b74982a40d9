"""What type checkers know: every line here has to pass mypy --strict and pyright. Read, never run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, assert_type

from anybroker import App, Failure, Handle, Retry, Signature, exponential
from anybroker.events import Failed, Succeeded

if TYPE_CHECKING:
    from anybroker.context import Context

app = App("memory://")


@app.task
def add(a: int, b: int = 2) -> int:
    return a + b


@app.task
async def fetch(url: str, *, tries: int) -> bytes:
    return url.encode() * tries


@app.task()
def touch(path: str, /) -> None:
    pass


@app.task(
    name="total", queue="numbers", retry=Retry(max=3, after=exponential(2)), timeout=timedelta(seconds=5), results=60
)
def total(*numbers: float, **more: float) -> float:
    return sum(numbers) + sum(more.values())


@app.task(results="forever")
async def greet(name: str | None = None) -> str:
    return name or "you"


def log_success(context: Context, result: object) -> None:
    pass


def log_failure(context: Context, error: BaseException) -> None:
    pass


@app.task
def mourn(failure: Failure) -> None:
    pass


@app.task(on_success=[log_success, touch], on_failure=(log_failure, mourn))
def hooked() -> str:
    return "x"


# called here and now, they are the functions that they were

assert_type(add(1), int)
assert_type(add(a=1, b=2), int)
assert_type(total(1, 2.5, more=3), float)

# sent

assert_type(add.send(1), Handle[int])
assert_type(add.send(a=1, b=2), Handle[int])
assert_type(fetch.send("x", tries=2), Handle[bytes])
assert_type(touch.send("x"), Handle[None])
assert_type(total.send(1, 2, more=3), Handle[float])
assert_type(greet.send(), Handle[str])
assert_type(hooked.send(), Handle[str])

# their results

assert_type(add.send(1).get(), int)
assert_type(fetch.send("x", tries=2).get(timeout=5), bytes)
assert_type(greet.send("Ada").get(5.5), str)
assert_type(add.send(1).id, str)

# as values

assert_type(add.s(1), Signature[int])
assert_type(fetch.s("x", tries=1).send(), Handle[bytes])
assert_type(add.s(1).options(delay=timedelta(days=2)).send().get(), int)
assert_type(add.name, str)

# with options

assert_type(add.options(delay=60, priority=5, queue="q").send(1), Handle[int])
assert_type(add.options(eta=datetime(2030, 1, 1, tzinfo=UTC), id="x", headers={"a": "b"}).s(1), Signature[int])
assert_type(fetch.options(expires=30, timeout=1.5, retry=Retry(max=1)).send("x", tries=1).get(), bytes)
assert_type(add.options(ordering_key="k").options(expires=datetime(2030, 1, 1, tzinfo=UTC)).send(b=1, a=2), Handle[int])

# many

assert_type(app.send_many([add.s(1), add.s(2)]), list[Handle[int]])
assert_type(app.send_many(add.s(number) for number in range(3))[0].get(), int)
assert_type(app.get_many(app.send_many([add.s(1), add.s(2)]), timeout=10), list[int])
app.send_many([add.s(1), greet.s("x"), fetch.s("y", tries=1)])
assert_type(app.send_by_name("elsewhere", [1], {"b": 2}, queue="q"), Handle[Any])


async def in_a_coroutine() -> None:
    assert_type(await add.send(1), int)
    assert_type(await fetch.send("x", tries=1), bytes)
    assert_type(await add.send_async(1), Handle[int])
    assert_type(await (await fetch.send_async("x", tries=1)), bytes)
    assert_type(await add.options(delay=1).send_async(1), Handle[int])
    assert_type(await add.s(1).send_async(), Handle[int])
    assert_type(await greet(), str)
    assert_type(await fetch("x", tries=1), bytes)


# jobs: plain functions, coroutine functions, and any mixture


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


async def index(numbers: list[int]) -> dict[str, int]:
    return {str(number): number for number in numbers}


def finish(numbers: dict[str, int]) -> None:
    numbers.clear()


two = app.job("two").step(download).step(measure)
assert_type(two.send("x", size=3), Handle[float])
assert_type(two.send("x").get(), float)
assert_type(two.s("x"), Signature[float])
assert_type(two.options(delay=3).send("x"), Handle[float])
assert_type(app.job("one").step(download).send("x"), Handle[bytes])
assert_type(app.job("one slow").step(download_slowly).send("x"), Handle[bytes])
assert_type(app.job("slow, slow").step(download_slowly).step(measure_slowly).send("x"), Handle[float])
assert_type(app.job("plain, slow").step(download).step(measure_slowly).send("x", 2), Handle[float])
assert_type(app.job("slow, plain").step(download_slowly).step(measure).send(url="x"), Handle[float])
three = (
    app.job("three", queue="q", retry=Retry(max=2)).step(download, timeout=3).step(measure_slowly, retry=Retry(max=1))
)
assert_type(three.step(split).send("x"), Handle[list[int]])
four = app.job("four").step(download_slowly).step(measure).step(split).step(index)
assert_type(four.send("x").get(), dict[str, int])
assert_type(four.step(finish).send("x").get(), None)

# what listens and waits


@app.on(Succeeded)
def count(event: Succeeded) -> None:
    assert_type(event.seconds, float)


def report(event: Failed) -> None:
    assert_type(event.error, BaseException)


app.on(Failed, report)
with app.testing() as testing:
    testing.assert_enqueued(add, 1, b=2)
    testing.assert_enqueued(fetch, "x", tries=1)
    testing.assert_enqueued(two, "x", size=2)
