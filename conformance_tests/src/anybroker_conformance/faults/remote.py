"""The other process of a test: it holds what it acquires and does as it is told, one JSON line each way.

See :mod:`anybroker_conformance.faults.peer` for the side that tells it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from anybroker.broker import Message
from anybroker.capabilities import Clock
from anybroker.loading import load_broker
from anybroker_conformance.faults import clock
from anybroker_conformance.history.recorder import Journal, RecordedBroker

if TYPE_CHECKING:
    from types import ModuleType

    from anybroker.broker import Broker, Delivery


class Origin(msgspec.Struct, frozen=True):
    """How to make the broker: from a URL, or by ``connect()`` of a test class."""

    journal: str
    """The file in which calls are recorded; its name is that of the client."""
    namespace: str = ""
    url: str | None = None
    module: str | None = None
    """Name of the module with the test class; None: the URL is that of a registered adapter."""
    file: str | None = None
    """Its file."""
    name: str = ""
    """Qualified name of the test class."""


class Ready(msgspec.Struct, frozen=True):
    """The first answer: the clock of the process, as ``time`` and as ``datetime`` tell it."""

    time: float
    datetime: float
    monotonic: float


class Failure(msgspec.Struct, frozen=True):
    """What was raised."""

    kind: str
    text: str
    traceback: str
    message_id: str | None = None
    stored: tuple[str, ...] = ()


class Answer(msgspec.Struct, frozen=True):
    """What came of a request."""

    value: Any = None
    failure: Failure | None = None


ANSWERS = msgspec.json.Decoder(Answer)


class Acquire(msgspec.Struct, tag="acquire", forbid_unknown_fields=True):
    """Acquire, and hold what comes."""

    queues: list[str]
    limit: int = 1
    wait: float = 0.0
    lease: float = 60.0


class Enqueue(msgspec.Struct, tag="enqueue", forbid_unknown_fields=True):
    """Enqueue messages."""

    messages: list[Message]


class Ack(msgspec.Struct, tag="ack", forbid_unknown_fields=True):
    """Acknowledge all that is held."""


class Update(msgspec.Struct, tag="update", forbid_unknown_fields=True):
    """Update all that is held."""

    body: bytes | None = None
    queue: str | None = None


class Extend(msgspec.Struct, tag="extend", forbid_unknown_fields=True):
    """Extend all that is held."""

    lease: float


class Drop(msgspec.Struct, tag="drop", forbid_unknown_fields=True):
    """Forget what is held."""


class Close(msgspec.Struct, tag="close", forbid_unknown_fields=True):
    """Close the broker."""


class Drain(msgspec.Struct, tag="drain", forbid_unknown_fields=True):
    """Acquire and acknowledge until nothing has come for ``quiet`` seconds."""

    queue: str
    lease: float = 60.0
    limit: int = 7
    quiet: float = 0.3


class Run(msgspec.Struct, tag="run", forbid_unknown_fields=True):
    """Call ``package.module:function`` with the broker and the arguments; it returns what JSON can say."""

    function: str
    arguments: dict[str, Any]


Request = Acquire | Enqueue | Ack | Update | Extend | Drop | Close | Drain | Run
_requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)


def make_broker(origin: Origin) -> Broker:
    """The broker of a test class, or of a URL."""
    if origin.module is None or origin.file is None:
        return load_broker(origin.url or "")
    found: Any = _module(origin.module, Path(origin.file))
    for part in origin.name.split("."):
        found = getattr(found, part)
    suite = found()
    suite.namespace = origin.namespace
    if origin.url is not None:
        suite.url = origin.url
    return suite.connect()  # type: ignore[no-any-return]


def _module(name: str, file: Path) -> ModuleType:
    """A module that may have been imported by its path, as pytest does, under a name that nobody else finds."""
    if name != "__main__":
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            spec = None
        if spec is not None and spec.origin is not None and Path(spec.origin).resolve() == file.resolve():
            return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(name if name != "__main__" else "__peer_main__", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python module")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def obey(broker: RecordedBroker, line: bytes, held: list[Delivery]) -> Answer:
    """Do what one line says."""
    try:
        return Answer(value=_do(_requests.decode(line), broker, held))
    except BaseException as error:
        return Answer(failure=describe(error))


def _do(request: Request, broker: RecordedBroker, held: list[Delivery]) -> Any:  # noqa: PLR0911 (one per verb)
    match request:
        case Acquire():
            taken = broker.acquire(request.queues, limit=request.limit, wait=request.wait, lease=request.lease)
            held += taken
            return [one.message.id for one in taken]
        case Enqueue():
            return broker.enqueue(request.messages)
        case Ack():
            return broker.ack(held)
        case Update():
            return broker.update([(one, _changed(one.message, request)) for one in held])
        case Extend():
            return broker.extend(held, lease=request.lease)
        case Drop():
            return held.clear()
        case Close():
            return broker.close()
        case Drain():
            return _drain(broker, request)
        case Run():
            module, _, name = request.function.partition(":")
            return getattr(importlib.import_module(module), name)(broker, **request.arguments)


def _changed(message: Message, request: Update) -> Message:
    body = message.body if request.body is None else request.body
    return msgspec.structs.replace(message, body=body, queue=request.queue or message.queue)


def _drain(broker: RecordedBroker, request: Drain) -> list[str]:
    acked: list[str] = []
    quiet_until = time.monotonic() + request.quiet
    while time.monotonic() < quiet_until:
        wait = min(0.2, request.quiet)
        taken = broker.acquire([request.queue], limit=request.limit, wait=wait, lease=request.lease)
        answers = broker.ack(taken) if taken else []
        acked += [one.message.id for one, ours in zip(taken, answers, strict=True) if ours]
        if taken:
            quiet_until = time.monotonic() + request.quiet
    return acked


def describe(error: BaseException) -> Failure:
    """An exception, so that it can be raised again in another process."""
    return Failure(
        kind=type(error).__name__,
        text=str(error),
        traceback="".join(traceback.format_exception(error)),
        message_id=getattr(error, "message_id", None),
        stored=tuple(getattr(error, "stored", ())),
    )


def main() -> None:
    """Make the broker as the first line says, then obey the others until there are no more."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what an adapter prints is no answer
    requests = sys.stdin.buffer

    def say(answer: Answer) -> None:
        os.write(answers, msgspec.json.encode(answer) + b"\n")

    try:
        origin = msgspec.json.decode(requests.readline(), type=Origin)
        made = make_broker(origin)
        judge = clock.true_time if made.capabilities.clock is Clock.SERVER else time.time
        path = Path(origin.journal)
        broker = RecordedBroker(made, Journal(path), path.stem, judge)
    except BaseException as error:
        say(Answer(failure=describe(error)))
        raise
    say(Answer(value=Ready(time.time(), datetime.now(UTC).timestamp(), time.monotonic())))
    held: list[Delivery] = []
    for line in requests:
        say(obey(broker, line, held))
    made.close()


if __name__ == "__main__":
    main()
