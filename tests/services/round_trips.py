# ruff: noqa: S310  the URLs are of servers of our own
"""A value written to a real service and read again, by the little of its protocol that this takes."""

from __future__ import annotations

import base64
import json
import time
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from anybroker_conformance.services import mongo_wire, probes
from anybroker_conformance.services.service import NotReadyError

if TYPE_CHECKING:
    from pathlib import Path

    from anybroker_conformance.services import Running

VALUE = "42"
QUEUE = "kept-through-a-kill"
MNESIA = {".LOG", ".DCL", ".DCD"}
"""Files of the database in which RabbitMQ keeps its queues."""


def write(service: Running) -> None:
    """Store the value."""
    match service.name:
        case "redis" | "redis-cluster" | "redis-sentinel":
            assert redis(service, "SET", "key", VALUE) == "OK"
        case "rabbitmq":
            rabbitmq(service, "PUT", f"queues/%2F/{QUEUE}", {"durable": True})
            _await_on_disk(service)
            properties = {"delivery_mode": 2}
            message = {"properties": properties, "routing_key": QUEUE, "payload": VALUE, "payload_encoding": "string"}
            assert rabbitmq(service, "POST", "exchanges/%2F/amq.default/publish", message) == {"routed": True}
        case "sqs":
            sqs(service, Action="CreateQueue", QueueName="q")
            sqs(service, Action="SendMessage", QueueUrl=f"{endpoint(service)}/000000000000/q", MessageBody=VALUE)
        case "mongodb":
            documents = [{"_id": 1, "version": VALUE}]
            assert mongo_wire.command(port(service), "anybroker", insert="values", documents=documents)["ok"] == 1
        case "memcached":
            assert probes.line(port(service), b"set key 0 0 2\r\n%b\r\n" % VALUE.encode()) == "STORED"
        case name:
            raise AssertionError(name)


def read(service: Running) -> bool:
    """Whether the value is there."""
    match service.name:
        case "redis" | "redis-cluster" | "redis-sentinel":
            return redis(service, "GET", "key") == VALUE
        case "rabbitmq":
            wanted = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}
            return [each["payload"] for each in rabbitmq(service, "POST", f"queues/%2F/{QUEUE}/get", wanted)] == [VALUE]
        case "sqs":
            found = sqs(
                service, Action="ReceiveMessage", QueueUrl=f"{endpoint(service)}/000000000000/q", VisibilityTimeout="0"
            )
            return f"<Body>{VALUE}</Body>" in found
        case "mongodb":
            return mongo_wire.command(port(service), "anybroker", count="values", query={"version": VALUE})["n"] == 1
        case "memcached":
            return probes.line(port(service), b"get key\r\n") == "VALUE key 0 2"
        case name:
            raise AssertionError(name)


def port(service: Running) -> int:
    found = urlsplit(service.url).port
    assert found
    return found


def endpoint(service: Running) -> str:
    return urllib.parse.parse_qs(urlsplit(service.url).query)["endpoint"][0]


def redis(service: Running, *words: str) -> str:
    """The answer of the node that has the key, or may be written to."""
    addresses = urlsplit(service.url).netloc.split(",")
    ports = [int(address.rpartition(":")[2]) for address in addresses]
    if service.name == "redis-sentinel":
        ports = [int(probes.redis(ports[0], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster").split()[-1])]
    refusals = []
    for each in ports:
        try:
            return probes.redis(each, *words)
        except NotReadyError as moved:
            refusals.append(str(moved))
    raise AssertionError(refusals)


def rabbitmq(service: Running, method: str, path: str, body: object) -> Any:
    base = urlsplit(service.variables["ANYBROKER_TEST_RABBITMQ_MANAGEMENT_URL"])
    credentials = base64.b64encode(f"{base.username}:{base.password}".encode()).decode()
    headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
    url = f"http://{base.hostname}:{base.port}/api/{path}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read() or b"null")


def _await_on_disk(service: Running) -> None:
    """RabbitMQ 3.10 answers a declaration before it has written it down, and forgets a queue when it is killed then.

    Its database logs what is changed, and after it, by a write of its own, that it counts.
    """
    data = service._door.state.folder / service.name
    deadline = time.monotonic() + 30
    while not any(_has_queue(file) for file in data.rglob("*") if file.suffix in MNESIA):
        assert time.monotonic() < deadline, f"{QUEUE} is in no file of {data}"
        time.sleep(0.02)


def _has_queue(file: Path) -> bool:
    _, queue, rest = file.read_bytes().rpartition(QUEUE.encode())
    return bool(queue) and (file.suffix != ".LOG" or b"committed" in rest)


def sqs(service: Running, **parameters: str) -> str:
    data = urllib.parse.urlencode(parameters).encode()
    with urllib.request.urlopen(endpoint(service), data, timeout=30) as answer:
        text: str = answer.read().decode()
        return text
