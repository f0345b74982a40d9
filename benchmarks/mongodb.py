"""Sending and draining through MongoDB: the broker beside bare loops of pymongo, and Celery."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from beside import BODY, ROUNDS, Rates, show_celery
from bson import ObjectId
from pymongo import MongoClient

from anybroker.broker import Message
from anybroker.loading import load_broker
from anybroker_broker_mongodb.documents import INDEXES, to_document

MESSAGES = 400
BATCH = 100
BROADCASTS = "messages.broadcast"
"""A capped collection that Celery makes, unless there is one of this name."""


def messages(turn: str, number: int = MESSAGES) -> list[Message]:
    return [Message(f"{turn}.{index}", "bench", BODY) for index in range(number)]


def drain_one_by_one(bare: Any, number: int) -> None:
    for _ in range(number):
        found = bare.find_one_and_update(
            {"queue": "bench", "state": "ready"},
            {"$set": {"state": "leased"}},
            sort=[("priority", -1), ("seq", 1)],
        )
        bare.delete_one({"_id": found["_id"]})


def drain_in_batches(bare: Any) -> None:
    while True:
        line = bare.find({"queue": "bench", "state": "ready"}).sort([("priority", -1), ("seq", 1)])
        ids = [one["_id"] for one in line.limit(BATCH)]
        if not ids:
            return
        bare.update_many({"_id": {"$in": ids}}, {"$set": {"state": "leased", "token": ObjectId()}})
        bare.delete_many({"_id": {"$in": ids}})


def drain(broker: Any) -> None:
    while taken := broker.acquire(["bench"], limit=BATCH, wait=0, lease=60):
        broker.ack(taken)


def mongodb(url: str) -> None:
    broker, rates = load_broker(url), Rates()
    with MongoClient[dict[str, Any]](url) as client:
        bare = client.get_default_database("anybroker")["bare"]
        bare.drop()
        bare.create_indexes(INDEXES)
        for turn in range(ROUNDS):
            documents = [to_document(one, ObjectId()) for one in messages(f"b{turn}")]
            rates.take("bare insert_many", MESSAGES, partial(bare.insert_many, documents, ordered=False))
            rates.take("bare drain in batches", MESSAGES, partial(drain_in_batches, bare))
            bare.insert_many([to_document(one, ObjectId()) for one in messages(f"s{turn}")])
            rates.take("bare drain one by one", MESSAGES, partial(drain_one_by_one, bare, MESSAGES))
            rates.take("enqueue", MESSAGES, partial(broker.enqueue, messages(f"o{turn}")))
            rates.take("drain", MESSAGES, partial(drain, broker))
        bare.drop()
        broker.close()
        rates.show({"enqueue": "bare insert_many", "drain": "bare drain in batches"})
        print(f"drain / one by one: {rates.median('drain') / rates.median('bare drain one by one'):.1f}")
        celery(url, client)


def celery(url: str, client: MongoClient[dict[str, Any]]) -> None:
    """Celery on the same server, without its remote control, which needs a capped collection: the stand-in has none."""
    database = client.get_default_database("anybroker")
    if BROADCASTS not in database.list_collection_names():
        database.create_collection(BROADCASTS)
    show_celery("mongodb", {"broker_url": url, "worker_enable_remote_control": False}, MESSAGES)
    for name in (BROADCASTS, "messages", "messages.queues", "messages.routing"):
        database.drop_collection(name)


if __name__ == "__main__":
    mongodb(sys.argv[1])
