"""A job of several steps that goes on where it was interrupted: ``python job.py``."""

from dataclasses import dataclass

from anybroker import App, Retry, current_context, fixed
from anybroker.events import Started

app = App("memory://")


@dataclass(frozen=True)
class Order:
    number: int
    price: float
    receipt: str = ""


def price(number: int, quantity: int) -> Order:
    return Order(number, price=9.5 * quantity)


def charge(order: Order) -> Order:
    """Fails at first. It is tried again, and ``price``, whose return is stored in the broker, is not run again."""
    if current_context().attempt == 1:
        raise ConnectionError("the bank does not answer")
    return Order(order.number, order.price, receipt=f"R-{order.number}")


async def confirm(order: Order) -> str:
    return f"order {order.number}: {order.price:.2f} paid, receipt {order.receipt}"


buy = app.job("buy", timeout=30).step(price).step(charge, retry=Retry(max=3, after=fixed(0.1))).step(confirm)


@app.on(Started)
def show(event: Started) -> None:
    print(f"running a step of {event.task}, attempt {event.attempt}")


if __name__ == "__main__":
    with app.worker(concurrency=4):
        print(buy.send(7, quantity=2).get(timeout=10))
