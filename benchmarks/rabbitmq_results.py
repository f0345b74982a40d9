"""From `send` to the result, all on RabbitMQ: anybroker beside bare pika with the same confirms, in turns."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
import uuid
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pika

from anybroker.cli.bench_worker import BenchSpec, BenchTasks, WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker.handle import Handle

ROUNDS = 8
ROUND_TRIPS = 50
FAN_OUT = 1000
PERSISTENT = pika.DeliveryMode.Persistent
CLASSIC, QUORUM = {"x-queue-type": "classic"}, {"x-queue-type": "quorum"}
REGISTER = CLASSIC | {"x-max-length": 1, "x-expires": 600_000}
KEPT = "600000"


class BareWorker:
    """Answers each message: declares a queue for its result, publishes it there and to the sender, and acknowledges.

    Nothing waits without need: both are published as soon as the queue is declared, and the message is acknowledged
    when both are confirmed.
    """

    def __init__(self, url: str, queue: str) -> None:
        self._queue = queue
        self._published = 0
        self._unconfirmed: dict[int, int] = {}
        """Delivery tag of a message, by the number of the last of what was published for it."""
        self._connection = pika.SelectConnection(
            pika.URLParameters(url), on_open_callback=lambda one: one.channel(on_open_callback=self._begin)
        )

    def run(self) -> None:
        """Until the process is ended."""
        self._connection.ioloop.start()

    def _begin(self, channel: Any) -> None:
        channel.confirm_delivery(partial(self._confirmed, channel))
        channel.basic_qos(prefetch_count=FAN_OUT)
        channel.basic_consume(self._queue, self._arrived)

    def _arrived(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        register = f"bare.result.{properties.message_id}"

        def publish(_: object) -> None:
            kept = pika.BasicProperties(delivery_mode=PERSISTENT, expiration=KEPT)
            channel.basic_publish("", register, body, kept)
            channel.basic_publish("", properties.reply_to, body)
            self._published += 2
            self._unconfirmed[self._published] = method.delivery_tag

        channel.queue_declare(register, durable=True, arguments=REGISTER, callback=publish)

    def _confirmed(self, channel: Any, frame: Any) -> None:
        for number in [one for one in self._unconfirmed if one <= frame.method.delivery_tag]:
            channel.basic_ack(self._unconfirmed.pop(number))


class Bare:
    """A sender with a queue for its answers."""

    def __init__(self, url: str, queue: str) -> None:
        self._queue = queue
        self._channel: Any = pika.BlockingConnection(pika.URLParameters(url)).channel()
        self._channel.queue_declare(queue, durable=True, arguments=QUORUM)
        self._channel.confirm_delivery()
        self._answers: str = self._channel.queue_declare("", exclusive=True).method.queue
        self._sent: list[str] = []

    def round_trip(self) -> None:
        """Send one, confirmed, and wait for its answer."""
        self._send()
        self._receive(1)

    def fan_out(self) -> None:
        """Send many, and wait for all answers."""
        for _ in range(FAN_OUT):
            self._send()
        self._receive(FAN_OUT)

    def clear(self) -> None:
        """Remove the results: each takes some memory of the server."""
        for id_ in self._sent:
            self._channel.queue_delete(f"bare.result.{id_}")
        self._sent.clear()

    def _send(self) -> None:
        self._sent.append(uuid.uuid4().hex)
        properties = pika.BasicProperties(delivery_mode=PERSISTENT, message_id=self._sent[-1], reply_to=self._answers)
        self._channel.basic_publish("", self._queue, b"x" * 100, properties, mandatory=True)

    def _receive(self, number: int) -> None:
        for _ in range(number):
            next(self._channel.consume(self._answers, auto_ack=True))


class Ours:
    """An app whose results are on RabbitMQ, too."""

    def __init__(self, spec: BenchSpec) -> None:
        tasks = BenchTasks(spec, lambda _: None)
        self.app, self._echo = tasks.app, tasks.echo
        self._handles: list[Handle[int]] = []

    def round_trip(self) -> None:
        """Send one and get its result."""
        self._handles.append(self._echo.send(1))
        self._handles[-1].get(60)

    def fan_out(self) -> None:
        """Send many and get their results."""
        handles = self.app.send_many([self._echo.s(number) for number in range(FAN_OUT)])
        self._handles += handles
        self.app.get_many(handles, timeout=60)

    def clear(self) -> None:
        """Remove the results."""
        self.app.results().forget([handle.id for handle in self._handles])
        self._handles.clear()


def timed(act: Callable[[], None]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    act()
    return 1000 * (time.perf_counter() - began)


def main(url: str) -> None:
    name = uuid.uuid4().hex
    spec = BenchSpec(url=url, results_url=url, queue=f"bench-{name}", concurrency=16)
    ours, bare = Ours(spec), Bare(url, f"bare-{name}")
    bare_worker = subprocess.Popen([sys.executable, __file__, url, f"bare-{name}"])
    try:
        with WorkerProcess(spec, SimpleQueue()):
            show(ours, bare)
    finally:
        bare_worker.kill()
    ours.app.close()


def show(ours: Ours, bare: Bare) -> None:
    """Measure both in turns."""
    sides: dict[str, Ours | Bare] = {"anybroker": ours, "bare": bare}
    trips: dict[str, list[float]] = {side: [] for side in sides}
    rates: dict[str, list[float]] = {side: [] for side in sides}
    for one in sides.values():
        one.round_trip()  # makes connections and queues
    for _ in range(ROUNDS):
        for side, one in sides.items():
            trips[side] += [timed(one.round_trip) for _ in range(ROUND_TRIPS)]
            one.clear()
    for _ in range(3):
        for side, one in sides.items():
            rates[side].append(FAN_OUT / timed(one.fan_out) * 1000)
            one.clear()
    print(f"{'':12}{'p50 ms':>10}{'p99 ms':>10}{'fan-out /s':>12}")
    for side in sides:
        cuts = statistics.quantiles(trips[side], n=100)
        print(f"{side:12}{cuts[49]:10.2f}{cuts[98]:10.2f}{statistics.median(rates[side]):12,.0f}")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        BareWorker(*sys.argv[1:]).run()
    main(*sys.argv[1:])
