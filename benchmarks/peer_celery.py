"""Celery on RabbitMQ: what it sends, and how fast one worker process with 8 threads does no-op tasks."""

import json
import sys
import threading
import time

from celery import Celery

url, number = sys.argv[1], int(sys.argv[2])
app = Celery("peer", broker=url)
app.conf.update(
    task_default_queue=f"celery{int(time.time())}",
    task_acks_late=True,
    task_ignore_result=True,
    broker_transport_options={"confirm_publish": True},
    worker_prefetch_multiplier=100,
)
done = 0


@app.task
def noop() -> None:
    global done  # noqa: PLW0603
    done += 1


began = time.perf_counter()
for _ in range(number):
    noop.delay()
sent = time.perf_counter() - began
worker = app.Worker(pool="threads", concurrency=8, loglevel="ERROR", without_gossip=True, without_mingle=True)
began = time.perf_counter()
threading.Thread(target=worker.start, daemon=True).start()
while done < number:
    time.sleep(0.005)
drained = time.perf_counter() - began
print(json.dumps({"enqueue_per_second": number / sent, "drain_per_second": number / drained}), flush=True)
worker.stop()
