"""Celery: how fast it sends, and how fast one worker process with 8 threads does no-op tasks.

Its configuration, with the URL of the broker, comes as JSON on the standard input, so that no password shows in a list
of processes.
"""

import json
import os
import sys
import threading
import time
import uuid

from celery import Celery

number = int(sys.argv[1])
app = Celery()
app.conf.update(
    **json.load(sys.stdin),
    task_default_queue=f"celery-{uuid.uuid4().hex}",
    task_ignore_result=True,
    worker_redirect_stdouts=False,
)
done = 0


@app.task(name="noop")
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
print(json.dumps({"enqueue_per_second": number / sent, "drain_per_second": number / drained}))
sys.stdout.flush()
os._exit(0)  # it would wait for its last poll
