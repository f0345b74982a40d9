"""Another process of a law test: holds what it acquires and does as it is told, one JSON line each way."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from anybroker.loading import load_broker

if TYPE_CHECKING:
    from anybroker.broker import Broker, Delivery


def obey(broker: Broker, held: list[Delivery], verb: str, arguments: list[Any]) -> Any:
    match verb:
        case "acquire":  # queue, limit, wait, lease
            queue, limit, wait, lease = arguments
            held += broker.acquire([queue], limit=limit, wait=wait, lease=lease)
            return [delivery.message.id for delivery in held]
        case "ack":
            return broker.ack(held)
        case "update":
            return broker.update([(one, msgspec.structs.replace(one.message, body=b"stale")) for one in held])
        case "extend":
            return broker.extend(held, lease=arguments[0])
        case "drain":  # queue, lease: acquire and acknowledge until nothing is left
            queue, lease = arguments
            done = []
            while taken := broker.acquire([queue], limit=7, wait=0.2, lease=lease):
                acked = broker.ack(taken)
                done += [one.message.id for one, ours in zip(taken, acked, strict=True) if ours]
            return done
    return None


def main() -> None:
    broker = load_broker(sys.argv[1])
    held: list[Delivery] = []
    print(json.dumps("ready"), flush=True)  # noqa: T201
    for line in sys.stdin:
        verb, *arguments = json.loads(line)
        print(json.dumps(obey(broker, held, verb, arguments)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
