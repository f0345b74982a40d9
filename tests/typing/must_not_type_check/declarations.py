"""Wrong declarations: each marked line is an error, for both type checkers, and no other line is. Read, never run."""

from __future__ import annotations

from anybroker import App, Retry

app = App("memory://")


def plain(a: int) -> int:
    return a


app.task(plain, retry=3)  # E
app.task(retry=3)(plain)  # E
app.task(timeout="1m")(plain)  # E
app.task(nam="x")(plain)  # E
app.task(queue=5)(plain)  # E
app.task(results="for a while")(plain)  # E
app.task(on_success=5)(plain)  # E
app.task("name")  # E
Retry(max="3")  # E
Retry(on=5)  # E
Retry(after="1m")  # E
App(5)  # E
