"""dramatiq on RabbitMQ: what it sends, and how fast one worker process with 8 threads does no-op tasks."""

import json
import sys
import time

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

url, number = sys.argv[1], int(sys.argv[2])
broker = RabbitmqBroker(url=url, middleware=[])  # none of them would do anything for these tasks, and some fail
dramatiq.set_broker(broker)
done = 0


@dramatiq.actor(queue_name=f"dramatiq{int(time.time())}")
def noop() -> None:
    global done  # noqa: PLW0603
    done += 1


began = time.perf_counter()
for _ in range(number):
    noop.send()
sent = time.perf_counter() - began
worker = dramatiq.Worker(broker, worker_threads=8)
began = time.perf_counter()
worker.start()
while done < number:
    time.sleep(0.005)
drained = time.perf_counter() - began
print(json.dumps({"enqueue_per_second": number / sent, "drain_per_second": number / drained}))
worker.stop()
