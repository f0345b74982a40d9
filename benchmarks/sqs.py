"""Sending and draining through SQS: the broker beside a bare boto3 loop with as many calls in flight, and Celery."""

from __future__ import annotations

import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import boto3
from beside import BODY, Ours, compare, show_celery
from botocore.config import Config

from anybroker_broker_sqs.options import BATCH, read_settings

MESSAGES = 1000
CELERY_TASKS = 500


class Bare:
    """Batches of ten, several calls in flight."""

    def __init__(self, url: str) -> None:
        settings = read_settings(url)
        key, secret = settings.credentials or (None, None)
        self._calls = settings.options.calls
        self._sqs: Any = boto3.client(
            "sqs",
            region_name=settings.region,
            endpoint_url=settings.endpoint,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=Config(max_pool_connections=self._calls),
        )
        self._queue = self._sqs.create_queue(QueueName=f"bare-{uuid.uuid4().hex}")["QueueUrl"]
        self._threads = ThreadPoolExecutor(self._calls)

    def send(self) -> None:
        entries = [{"Id": str(number), "MessageBody": BODY.decode()} for number in range(BATCH)]

        def send(_: int) -> None:
            assert not self._sqs.send_message_batch(QueueUrl=self._queue, Entries=entries).get("Failed")

        list(self._threads.map(send, range(MESSAGES // BATCH)))

    def drain(self) -> None:
        left = MESSAGES
        while left > 0:
            left -= sum(self._threads.map(lambda _: self._receive_and_delete(), range(self._calls)))

    def _receive_and_delete(self) -> int:
        found = self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=BATCH).get("Messages", [])
        if found:
            entries = [{"Id": one["MessageId"], "ReceiptHandle": one["ReceiptHandle"]} for one in found]
            self._sqs.delete_message_batch(QueueUrl=self._queue, Entries=entries)
        return len(found)


def celery(url: str) -> None:
    """Celery on the same server."""
    settings = read_settings(url)
    key, secret = settings.credentials or ("x", "x")
    endpoint = settings.endpoint or ""
    options = {
        "region": settings.region,
        "is_secure": endpoint.startswith("https"),
        "wait_time_seconds": 1,
        "polling_interval": 0.01,
    }
    broker = f"sqs://{quote(key)}:{quote(secret)}@{endpoint.partition('://')[2]}//"
    show_celery("sqs", {"broker_url": broker, "broker_transport_options": options}, CELERY_TASKS)


def main(url: str) -> None:
    compare(Ours(url, batch=BATCH * read_settings(url).options.calls), Bare(url), MESSAGES)
    celery(url)


if __name__ == "__main__":
    main(sys.argv[1])
