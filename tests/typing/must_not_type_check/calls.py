"""Wrong calls: each marked line is an error, for both type checkers, and no other line is. Read, never run."""

from __future__ import annotations

from anybroker import App, Handle

app = App("memory://")


@app.task
def add(a: int, b: int = 2) -> int:
    return a + b


@app.task(queue="q")
async def fetch(url: str, *, tries: int) -> bytes:
    return url.encode() * tries


@app.task
def touch(path: str, /) -> None:
    pass


add("x")  # E
add.send("x")  # E
add.send()  # E
add.send(1, 2, 3)  # E
add.send(1, c=3)  # E
add.send(1, b="x")  # E
add.send(None)  # E
add.send(b"x")  # E
add.s("x")  # E
add.s()  # E
add.s(1).send(2)  # E
add.options(delay=3).send("x")  # E
add.options(delay=3).s()  # E
add.options(delay="x")  # E
add.options(dely=3)  # E
add.options(priority="high")  # E
add.options(eta=60)  # E
add.options(headers={"a": 1})  # E
add.s(1).options(queue=5)  # E
add.delay(1)  # E
fetch.send("x")  # E
fetch.send("x", 3)  # E
fetch.send("x", tries="3")  # E
fetch.s(url=5, tries=1)  # E
touch.send(path="x")  # E
app.send_many([add])  # E
app.send_many([add.s("x")])  # E
app.send_many([add.send(1)])  # E
app.send_many(add.s(1))  # E
app.get_many([add.s(1)])  # E
app.get_many(add.send(1))  # E
text: str = add.send(1).get()  # E
wrong: Handle[str] = add.send(1)  # E
add.send(1).get(timeout="x")  # E
data: str = fetch.send("x", tries=1).get()  # E
app.send_by_name(add, [1])  # E
app.send_by_name("x", [1], queu="q")  # E


async def in_a_coroutine() -> None:
    touch(await add.send(1))  # E
    add(await fetch.send("x", tries=1))  # E
    await add.send_async("x")  # E
    await fetch.options(delay=1).send_async("x")  # E
    add(add.send_async(1))  # E
    await fetch("x")  # E


with app.testing() as testing:
    testing.assert_enqueued(add, "x")  # E
    testing.assert_enqueued(fetch, "x")  # E
