"""How much the MongoDB broker and the Memcached backend cost beside bare loops on the same servers, in one run.

``python benchmarks/mongodb.py mongodb://localhost:27017/bench memcache://localhost:11211``
"""

from __future__ import annotations

import sys
import time
from statistics import median
from typing import TYPE_CHECKING, Any

from bson import ObjectId
from pymemcache.client.base import Client
from pymongo import MongoClient

from anybroker.backend import Result, State
from anybroker.broker import Message
from anybroker.loading import load_backend, load_broker
from anybroker_broker_mongodb.documents import INDEXES, to_document

if TYPE_CHECKING:
    from collections.abc import Callable

MESSAGES = 400
BATCH = 100
ROUNDS = 7
BODY = b"x" * 200


def messages(turn: str, number: int = MESSAGES) -> list[Message]:
    return [Message(f"{turn}.{index}", "bench", BODY) for index in range(number)]


def timed(work: Callable[[], object], number: int) -> float:
    began = time.perf_counter()
    work()
    return number / (time.perf_counter() - began)


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
    broker = load_broker(url)
    with MongoClient[dict[str, Any]](url) as client:
        bare = client.get_default_database("anybroker")["bare"]
        bare.drop()
        bare.create_indexes(INDEXES)
        figures: dict[str, list[float]] = {}
        for turn in range(ROUNDS):
            documents = [to_document(one, ObjectId()) for one in messages(f"b{turn}")]
            rates = {"bare insert_many": timed(lambda: bare.insert_many(documents, ordered=False), MESSAGES)}  # noqa: B023
            rates["bare drain in batches"] = timed(lambda: drain_in_batches(bare), MESSAGES)
            some = [to_document(one, ObjectId()) for one in messages(f"s{turn}")]
            bare.insert_many(some)
            rates["bare drain one by one"] = timed(lambda: drain_one_by_one(bare, MESSAGES), MESSAGES)
            ours = messages(f"o{turn}")
            rates["enqueue"] = timed(lambda: broker.enqueue(ours), MESSAGES)  # noqa: B023
            rates["drain"] = timed(lambda: drain(broker), MESSAGES)
            for name, rate in rates.items():
                figures.setdefault(name, []).append(rate)
        bare.drop()
    broker.close()
    show(figures, {"enqueue": "bare insert_many", "drain": "bare drain in batches"})
    print(f"drain / one by one: {median(figures['drain']) / median(figures['bare drain one by one']):.1f}")


def memcache(url: str) -> None:
    backend = load_backend(url)
    host, _, port = url.partition("://")[2].partition(":")
    bare: Any = Client((host, int(port or 11211)), no_delay=True)
    figures: dict[str, list[float]] = {}
    for turn in range(ROUNDS * 3):
        ours = [Result(f"{turn}.{index}", State.SUCCEEDED, 1, BODY) for index in range(MESSAGES)]
        theirs: dict[bytes | str, bytes] = {f"bare:{one.id}": BODY for one in ours}
        rates = {
            "bare set_many": timed(lambda: bare.set_many(theirs, expire=60, noreply=False), MESSAGES),  # noqa: B023
            "store": timed(lambda: backend.store(ours, ttl=60), MESSAGES),  # noqa: B023
            "bare get_many": timed(lambda: bare.get_many(list(theirs)), MESSAGES),  # noqa: B023
            "fetch": timed(lambda: backend.fetch([one.id for one in ours]), MESSAGES),  # noqa: B023
        }
        backend.forget([one.id for one in ours])
        for name, rate in rates.items():
            figures.setdefault(name, []).append(rate)
    backend.close()
    bare.close()
    show(figures, {"store": "bare set_many", "fetch": "bare get_many"})


def show(figures: dict[str, list[float]], compared: dict[str, str]) -> None:
    for name, rates in figures.items():
        other = compared.get(name)
        share = f"  {median(rates) / median(figures[other]):.0%} of {other}" if other else ""
        print(f"{name:24} {median(rates):10,.0f}/s{share}")


if __name__ == "__main__":
    mongodb(sys.argv[1])
    memcache(sys.argv[2])
