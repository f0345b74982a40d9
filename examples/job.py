"""A job of several steps that goes on where it was interrupted: ``python job.py``."""

from dataclasses import dataclass

from anybroker import App, Retry, current_context, fixed

app = App("memory://")


@dataclass(frozen=True)
class Order:
    number: int
    price: float
    receipt: str = ""


def price(number: int, quantity: int) -> Order:
    print("price")
    return Order(number, price=9.5 * quantity)


def charge(order: Order) -> Order:
    """Fails at first. It is tried again, and ``price``, whose return is stored in the broker, is not run again."""
    print("charge, attempt", current_context().attempt)
    if current_context().attempt == 1:
        raise ConnectionError("the bank does not answer")
    return Order(order.number, order.price, receipt=f"R-{order.number}")


async def confirm(order: Order) -> str:
    print("confirm")
    return f"order {order.number}: {order.price:.2f} paid, receipt {order.receipt}"


buy = app.job("buy", timeout=30).step(price).step(charge, retry=Retry(max=3, after=fixed(0.1))).step(confirm)


if __name__ == "__main__":
    with app.worker(concurrency=4):
        print(buy.send(7, quantity=2).get(timeout=10))
