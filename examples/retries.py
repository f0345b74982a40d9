"""What happens to tasks that fail: ``python retries.py``."""

from anybroker import App, Retry, TaskFailed, current_context, exponential
from anybroker.events import Dead, Retried

app = App("memory://")


@app.task(retry=Retry(max=5, after=exponential(0.1, cap=1), on=ConnectionError))
def fetch(url: str) -> str:
    """Fails twice, as networks do, and then does not."""
    attempt = current_context().attempt
    if attempt < 3:
        raise ConnectionError(f"{url} does not answer")
    return f"{url}, at the {attempt}rd attempt"


@app.task(retry=Retry(max=5, give_up_on=ValueError))
def parse(text: str) -> int:
    """Raises ValueError for what is no number, and no retry would change that."""
    return int(text)


@app.on(Retried)
def show_retry(event: Retried) -> None:
    print(f"{event.task}: {event.error}; again in {event.delay:.2f} s")


@app.on(Dead)
def show_death(event: Dead) -> None:
    print(f"{event.task}: {event.reason}; kept in the queue {event.dead_queue!r}")


if __name__ == "__main__":
    with app.worker(concurrency=4):
        print("fetched:", fetch.send("https://example.org").get(timeout=10))
        try:
            parse.send("forty-two").get(timeout=10)
        except TaskFailed as error:
            print("not parsed:", error.args[0])
