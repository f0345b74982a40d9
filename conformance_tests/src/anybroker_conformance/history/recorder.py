"""A broker that writes down what is done with it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Hashable
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING, Any, Self

import msgspec

from anybroker.broker import Delivery, Estimate, Message
from anybroker.errors import BrokerUnavailable
from anybroker_conformance.history.calls import Call, Content, History, Item

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from anybroker.broker import Broker, Stats
    from anybroker.capabilities import Capabilities

_numbers = count(1)


class Journal:
    """Where calls are written down. Thread-safe; with a ``path``, also what a killed process has written stays.

    Every call is added twice, when it begins and when it ends, under the same number: the later one counts.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._calls: dict[tuple[int, int], Call] = {}
        self._lock = threading.Lock()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if path else None

    def add(self, call: Call) -> None:
        """Write a call down."""
        if self._file is not None:
            os.write(self._file, msgspec.json.encode(call) + b"\n")
        with self._lock:
            self._calls[call.process, call.number] = call

    def add_all(self, path: Path) -> None:
        """Add what another process has written to a file."""
        decode = msgspec.json.Decoder(Call).decode
        for line in path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):  # a process may have been killed in the middle of a line
                self.add(decode(line))

    def history(self) -> History:
        """All calls so far."""
        with self._lock:
            calls = sorted(self._calls.values(), key=lambda call: call.began)
        return History(tuple(calls))


class WrongAnswer(AssertionError):
    """A broker's method returned what its protocol does not allow."""


class RecordedBroker:
    """A broker that does what another one does, writes it down, and checks the types of what is returned."""

    def __init__(self, broker: Broker, journal: Journal, client: str, now: Callable[[], float] = time.time) -> None:
        self.recorded = broker
        """The broker itself."""
        self.client = client
        self._journal = journal
        self._now = now

    @property
    def capabilities(self) -> Capabilities:
        """Those of the broker."""
        return self.recorded.capabilities

    def enqueue(self, messages: Sequence[Message]) -> None:
        """See ``Broker.enqueue``."""
        items = tuple(Item(Content.of(message)) for message in messages)
        answer = self._call(lambda: self.recorded.enqueue(messages), verb="enqueue", items=items)
        _expect(answer is None, "enqueue", answer, "None")

    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """See ``Broker.acquire``."""
        call = self._begin(verb="acquire", queues=tuple(queues), limit=limit, wait=wait, lease=lease)
        with _Ending(self, call) as ending:
            answer = self.recorded.acquire(queues, limit=limit, wait=wait, lease=lease)
            _expect(_is_list_of(answer, Delivery), "acquire", answer, "a list of deliveries")
            for delivery in answer:
                _expect_fields(delivery)
            ending.items = tuple(Item.delivered(one) for one in answer)
        if len(answer) > max(0, limit):
            raise WrongAnswer(f"acquire returned {len(answer)} deliveries although limit was {limit}")
        return answer

    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """See ``Broker.ack``."""
        return self._settle("ack", [(one, None) for one in deliveries], lambda: self.recorded.ack(deliveries))

    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        """See ``Broker.update``."""
        return self._settle("update", changes, lambda: self.recorded.update(changes))

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[bool]:
        """See ``Broker.extend``."""
        pairs = [(one, None) for one in deliveries]
        return self._settle("extend", pairs, lambda: self.recorded.extend(deliveries, lease=lease), lease=lease)

    def close(self) -> None:
        """See ``Broker.close``."""
        answer: object = self._call(self.recorded.close, verb="close")
        _expect(answer is None, "close", answer, "None")

    def queues(self) -> list[str]:
        """See ``Inspect.queues``."""
        return self._inspect().queues()  # type: ignore[no-any-return]

    def stats(self, queue: str) -> Stats:
        """See ``Inspect.stats``."""
        return self._inspect().stats(queue)  # type: ignore[no-any-return]

    def peek(self, queue: str, *, limit: int = 20) -> list[Message]:
        """See ``Inspect.peek``."""
        answer = self._inspect().peek(queue, limit=limit)
        _expect(_is_list_of(answer, Message), "peek", answer, "a list of messages")
        return answer  # type: ignore[no-any-return]

    def remove(self, queue: str, ids: Sequence[str]) -> list[bool]:
        """See ``Inspect.remove``."""
        call = self._begin(verb="remove", queues=(queue,), items=tuple(map(_named, ids)))
        with _Ending(self, call) as ending:
            answers: list[bool] = self._inspect().remove(queue, ids)
            _expect_answers("remove", answers, len(ids))
            ending.items = tuple(
                msgspec.structs.replace(item, answer=answer) for item, answer in zip(call.items, answers, strict=True)
            )
        return answers

    def purge(self, queue: str) -> int:
        """See ``Inspect.purge``."""
        answer = self._call(lambda: self._inspect().purge(queue), verb="purge", queues=(queue,))
        _expect(type(answer) is int, "purge", answer, "how many were removed")
        return answer  # type: ignore[no-any-return]

    def known_queues(self) -> list[str]:
        """See ``Overview.known_queues``."""
        answer = self._inspect().known_queues()
        _expect(_is_list_of(answer, str), "known_queues", answer, "a list of names")
        return answer  # type: ignore[no-any-return]

    def estimate(self, queue: str) -> Estimate:
        """See ``Overview.estimate``."""
        answer = self._inspect().estimate(queue)
        _expect(isinstance(answer, Estimate), "estimate", answer, "an Estimate")
        return answer  # type: ignore[no-any-return]

    def clear(self, queue: str) -> None:
        """See ``Overview.clear``."""
        answer = self._call(lambda: self._inspect().clear(queue), verb="purge", queues=(queue,))
        _expect(answer is None, "clear", answer, "None")

    def _inspect(self) -> Any:
        return self.recorded

    def _settle(
        self,
        verb: str,
        pairs: Iterable[tuple[Delivery, Message | None]],
        act: Callable[[], list[bool]],
        **asked: Any,
    ) -> list[bool]:
        items = tuple(Item.delivered(delivery, new=new) for delivery, new in pairs)
        call = self._begin(verb=verb, items=items, **asked)
        with _Ending(self, call) as ending:
            answers = act()
            _expect_answers(verb, answers, len(items))
            ending.items = tuple(
                msgspec.structs.replace(item, answer=answer) for item, answer in zip(items, answers, strict=True)
            )
        return answers

    def _call(self, act: Callable[[], Any], **asked: Any) -> Any:
        with _Ending(self, self._begin(**asked)):
            return act()

    def _begin(self, **asked: Any) -> Call:
        call = Call(
            number=next(_numbers),
            process=os.getpid(),
            thread=threading.current_thread().name,
            client=self.client,
            began=time.monotonic(),
            began_at=self._now(),
            **asked,
        )
        self._journal.add(call)
        return call


class _Ending:
    """Writes down how a call ended."""

    def __init__(self, broker: RecordedBroker, call: Call) -> None:
        self._broker = broker
        self._call = call
        self.items = call.items

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        outcome = "ok" if error is None else "unknown" if isinstance(error, BrokerUnavailable) else "fail"
        ended = msgspec.structs.replace(
            self._call,
            ended=time.monotonic(),
            ended_at=self._broker._now(),  # noqa: SLF001 (a part of the recorder)
            outcome=outcome,
            items=self.items,
            stored=tuple(sorted(error.stored)) if isinstance(error, BrokerUnavailable) else (),
            error=None if error is None else f"{type(error).__name__}: {error}",
        )
        self._broker._journal.add(ended)  # noqa: SLF001


def _named(id_: str) -> Item:
    """A message of which only the id is known."""
    return Item(Content(id_, "", "", 0, None, 0, None))


def _is_list_of(answer: object, kind: type) -> bool:
    return isinstance(answer, list) and all(isinstance(one, kind) for one in answer)


def _expect_answers(verb: str, answer: object, number: int) -> None:
    right = isinstance(answer, list) and len(answer) == number and all(type(one) is bool for one in answer)
    _expect(right, verb, answer, f"a list of {number} bools")


def _expect_fields(delivery: Delivery) -> None:
    """What the recorder itself reads of a delivery, and what core keeps it by."""
    until: object = delivery.lease_until
    fields = (
        ("message", delivery.message, isinstance(delivery.message, Message), "an anybroker.broker.Message"),
        ("token", delivery.token, isinstance(delivery.token, Hashable), "something hashable"),
        ("lease_until", until, isinstance(until, datetime) and until.utcoffset() is not None, "an aware datetime"),
    )
    for name, value, right, expected in fields:
        _expect(right, f"acquire, as the {name} of a delivery,", value, expected)
    body: object = delivery.message.body
    _expect(isinstance(body, bytes | bytearray | memoryview), "acquire, as the body of a message,", body, "bytes")


def _expect(right: bool, verb: str, answer: object, expected: str) -> None:  # noqa: FBT001
    if not right:
        raise WrongAnswer(f"{verb} returned {answer!r:.200}; expected {expected}")
