"""Calls that may hang, made in a thread of their own so that the command does not."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from anybroker.broker import Inspect
from anybroker.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker.broker import Broker

T = TypeVar("T")
PING = "anybroker-ping"
"""A queue that nothing is ever sent to: always the same one, for some services create and keep what is asked for."""


class NoAnswer(BrokerUnavailable):
    """The service accepted the call, or did not even refuse it, and said nothing in time."""


def within(seconds: float, call: Callable[[], T]) -> T:
    """What ``call`` returns or raises; ``NoAnswer`` when that takes more than ``seconds``: its thread is left alone."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="anybroker-deadline", daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError as error:
        if future.done():  # the call itself raised it
            raise
        raise NoAnswer(f"no answer within {seconds:g} s") from error


def ping(broker: Broker) -> None:
    """The cheapest call that the server has to answer. Raises ``BrokerUnavailable``."""
    if broker.capabilities.inspect and isinstance(broker, Inspect):
        broker.stats("default")
    else:
        broker.acquire([PING], limit=1, wait=0, lease=1)
