"""How fast anybroker is on RabbitMQ, beside dramatiq and bare pika on the same server in the same run.

``uv run python benchmarks/rabbitmq.py amqp://guest:guest@127.0.0.1:5672/``. Figures move with the machine, so read the
ratios. dramatiq runs in an environment of its own.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pika

HERE = Path(__file__).parent
UV = os.environ.get("UV", "uv")
PEERS = {"dramatiq": "dramatiq[rabbitmq]==1.18.0"}
TASKS = int(os.environ.get("TASKS", "10000"))
PEER_TASKS = TASKS // 2
SINGLE = 500
WINDOW = 1000


def anybroker(url: str) -> dict[str, float]:
    """``anybroker bench`` in a process of its own."""
    command = [sys.executable, "-m", "anybroker", "bench", url, "--tasks", str(TASKS), "--json"]
    measured: dict[str, float] = json.loads(subprocess.check_output(command))
    return {name: value for name, value in measured.items() if isinstance(value, int | float)}


def peer(name: str, url: str) -> dict[str, float]:
    """Another task queue, in an environment of its own."""
    command = [UV, "run", "--quiet", "--no-project", "--with", PEERS[name], "python", str(HERE / f"peer_{name}.py")]
    measured: dict[str, float] = json.loads(subprocess.check_output([*command, url, str(PEER_TASKS)]))
    return measured


class BarePika:
    """What pika itself does with a quorum queue: a window of confirms, and an ack for each message."""

    def __init__(self, url: str) -> None:
        self._parameters = pika.URLParameters(url)
        self._queue = f"bare{int(time.time())}"
        self._sent = self._done = 0
        self._began = self._ended = 0.0

    def measure(self) -> dict[str, float]:
        """Messages per second."""
        blocking = pika.BlockingConnection(self._parameters).channel()
        blocking.queue_declare(self._queue, durable=True, arguments={"x-queue-type": "quorum"})
        blocking.confirm_delivery()
        began = time.perf_counter()
        for _ in range(SINGLE):
            self._publish(blocking)
        one_by_one = SINGLE / (time.perf_counter() - began)
        blocking.queue_purge(self._queue)
        blocking.connection.close()
        return {
            "enqueue_per_second": one_by_one,
            "bulk_per_second": self._run(self._begin_to_publish),
            "drain_per_second": self._run(self._begin_to_consume),
        }

    def _run(self, begin: object) -> float:
        self._sent = self._done = 0
        connection = pika.SelectConnection(
            self._parameters, on_open_callback=lambda one: one.channel(on_open_callback=begin)
        )
        connection.ioloop.start()
        return TASKS / (self._ended - self._began)

    def _publish(self, channel: pika.channel.Channel) -> None:
        properties = pika.BasicProperties(delivery_mode=2, message_id="0123456789")
        channel.basic_publish("", self._queue, b"x" * 100, properties, mandatory=True)

    def _count(self, channel: pika.channel.Channel, done: int) -> None:
        self._done = done
        if done >= TASKS:
            self._ended = time.perf_counter()
            channel.connection.ioloop.stop()

    def _begin_to_publish(self, channel: pika.channel.Channel) -> None:
        def confirmed(method: pika.frame.Method) -> None:
            self._count(channel, method.method.delivery_tag)
            fill()

        def fill() -> None:
            while self._sent < TASKS and self._sent - self._done < WINDOW:
                self._publish(channel)
                self._sent += 1

        channel.confirm_delivery(confirmed)
        self._began = time.perf_counter()
        fill()

    def _begin_to_consume(self, channel: pika.channel.Channel) -> None:
        def arrived(_: object, method: pika.spec.Basic.Deliver, __: object, ___: bytes) -> None:
            channel.basic_ack(method.delivery_tag)
            self._count(channel, self._done + 1)

        channel.basic_qos(prefetch_count=WINDOW)
        self._began = time.perf_counter()
        channel.basic_consume(self._queue, arrived)


def main() -> None:
    """One run of each, one after the other."""
    url = sys.argv[1]
    columns = {"anybroker": anybroker(url), "bare pika": BarePika(url).measure()}
    for name in PEERS:
        columns[name] = peer(name, url)
    print(f"{'':24}" + "".join(f"{name:>14}" for name in columns))
    for figure in columns["anybroker"]:
        cells = [f"{column[figure]:>14,.1f}" if figure in column else f"{'':>14}" for column in columns.values()]
        print(f"{figure:24}" + "".join(cells))


if __name__ == "__main__":
    main()
