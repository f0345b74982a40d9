"""A task, a worker beside the rest of the program, and a result: ``python quickstart.py``."""

from anybroker import App

app = App("memory://")


@app.task
def add(a: int, b: int) -> int:
    return a + b


if __name__ == "__main__":
    with app.worker(concurrency=4):
        print(add.send(2, 3).get(timeout=10))
