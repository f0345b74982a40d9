"""Wrong brokers of laws 8 and 11: too early, too late, in each other's way, and asleep."""

from __future__ import annotations

import math
import threading
import time
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from anybroker.memory import MemoryBroker
from anybroker_conformance.faults.reference import TcpBroker
from anybroker_conformance.ledger.registry import wrong_broker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from anybroker.broker import Delivery, Message

replace = msgspec.structs.replace


class Dated(MemoryBroker):
    """Stores another eta than it shows."""

    def dated(self, eta: datetime) -> datetime | None:
        """The eta that it keeps."""
        raise NotImplementedError

    def stored(self, message: Message) -> Message:
        """A message as it keeps it."""
        if message.eta is None:
            return message
        self.shown.setdefault(message.id, {})[self.dated(message.eta)] = message.eta
        return replace(message, eta=self.dated(message.eta))

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.shown: dict[str, dict[datetime | None, datetime]] = {}

    def enqueue(self, messages: Sequence[Message]) -> None:
        super().enqueue([self.stored(one) for one in messages])

    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        return super().update([(one, self.stored(new)) for one, new in changes])

    def acquire(self, queues: Sequence[str], **asked: Any) -> list[Delivery]:
        return [replace(one, message=self.original(one.message)) for one in super().acquire(queues, **asked)]

    def peek(self, queue: str, *, limit: int = 20) -> list[Message]:
        return [self.original(one) for one in super().peek(queue, limit=limit)]

    def original(self, message: Message) -> Message:
        """A message as it came."""
        eta = self.shown.get(message.id, {}).get(message.eta, message.eta)
        return replace(message, eta=eta)


@wrong_broker("eta", "etas are ignored")
class IgnoresEta(Dated):
    def dated(self, eta: datetime) -> datetime | None:  # noqa: ARG002
        return None


@wrong_broker("eta", "a second early")
class ASecondEarly(Dated):
    def dated(self, eta: datetime) -> datetime | None:
        return eta - timedelta(seconds=1)


@wrong_broker("eta", "five seconds late")
class FiveSecondsLate(Dated):
    def dated(self, eta: datetime) -> datetime | None:
        return eta + timedelta(seconds=5)


@wrong_broker("eta", "the part of a second is cut off")
class WholeSeconds(Dated):
    def dated(self, eta: datetime) -> datetime | None:
        return eta.replace(microsecond=0)


@wrong_broker("eta", "etas are rounded down to hundredths of a second")
class Hundredths(TcpBroker):
    etas: ClassVar[dict[str, datetime]] = {}
    """By id, as they were given."""

    def rounded(self, message: Message) -> Message:
        """A message as it is stored."""
        if message.eta is None:
            return message
        self.etas[message.id] = message.eta
        microsecond = message.eta.microsecond // 10_000 * 10_000
        return replace(message, eta=message.eta.replace(microsecond=microsecond))

    def enqueue(self, messages: Sequence[Message]) -> None:
        super().enqueue([self.rounded(one) for one in messages])

    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        return super().update([(one, self.rounded(new)) for one, new in changes])

    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        taken = super().acquire(queues, limit=limit, wait=wait, lease=lease)
        return [replace(one, message=self.original(one.message)) for one in taken]

    def peek(self, queue: str, *, limit: int = 20) -> list[Message]:
        return [self.original(one) for one in super().peek(queue, limit=limit)]

    def original(self, message: Message) -> Message:
        """A message as it came."""
        return replace(message, eta=message.eta and self.etas.get(message.id, message.eta))


@wrong_broker("eta", "the offset of the time zone is ignored")
class IgnoresOffset(Dated):
    def dated(self, eta: datetime) -> datetime | None:
        return eta.replace(tzinfo=UTC)


@wrong_broker("eta", "enqueueing the id of a delayed message again changes when it is due")
class SameIdMovesEta(MemoryBroker):
    def enqueue(self, messages: Sequence[Message]) -> None:
        queues = self._store.queues
        with self._store.changed:
            for message in messages:
                entry = queues.by_id.get(message.id)
                if entry is not None and entry.state.value == "delayed":
                    entry.alarm = math.inf
                    queues.hold(entry, message.eta.timestamp() if message.eta else self._store.clock.time())
            super().enqueue(messages)


class Capped(Dated):
    """Delays no longer than the service does."""

    longest: timedelta

    def dated(self, eta: datetime) -> datetime | None:
        return min(eta.astimezone(UTC), self._store.clock.now() + self.longest)


@wrong_broker("eta", "no delay is longer than 15 minutes")
class QuarterOfAnHour(Capped):
    longest = timedelta(minutes=15)


@wrong_broker("eta", "no delay is longer than a day")
class ADay(Capped):
    longest = timedelta(days=1)


@wrong_broker("eta", "delays are counted in 32 bits of milliseconds")
class Overflows(Dated):
    def dated(self, eta: datetime) -> datetime | None:
        delay = int((eta - self._store.clock.now()).total_seconds() * 1000)
        return eta if delay < 2**31 else eta - timedelta(milliseconds=delay) + timedelta(milliseconds=delay % 2**31)


@wrong_broker("eta", "the eta of an update is ignored when it is in another queue")
class IgnoresEtaOfMoves(MemoryBroker):
    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        answers = super().update(changes)
        with self._store.changed:
            for one, new in changes:
                entry = self._store.queues.by_id.get(new.id)
                if entry is not None and new.queue != one.message.queue and entry.state.value == "delayed":
                    self._store.queues.make_ready(entry, self._store.clock.time())
        return answers


@wrong_broker("eta", "one that waits for its eta blocks those behind it")
class BlocksBehind(MemoryBroker):
    def acquire(self, queues: Sequence[str], **asked: Any) -> list[Delivery]:
        with self._store.changed:
            now = self._store.clock.time()
            self._store.queues.ring(now)
            found = []
            for name in queues:
                queue = self._store.queues.by_name.get(name)
                first = queue.entries[min(queue.entries)] if queue else None
                if first is None or first.state.value != "delayed":
                    found.append(name)
        return super().acquire(found, **asked)


@wrong_broker("eta", "of what comes due at once, more than 1000 are lost")
class LosesManyDue(MemoryBroker):
    def acquire(self, queues: Sequence[str], **asked: Any) -> list[Delivery]:
        with self._store.changed:
            now = self._store.clock.time()
            due = [
                entry
                for entry in self._store.queues.by_id.values()
                if entry.state.value == "delayed" and entry.due <= now
            ]
            for entry in due[1000:]:
                self._store.queues.remove(entry, now)
        return super().acquire(queues, **asked)


@wrong_broker("eta", "close makes delayed messages due")
class CloseForgetsEtas(MemoryBroker):
    def close(self) -> None:
        super().close()
        with self._store.changed:
            for entry in list(self._store.queues.by_id.values()):
                if entry.state.value == "delayed":
                    self._store.queues.make_ready(entry, self._store.clock.time())


# Law 11: prompt


@wrong_broker("prompt", "does not wait")
class NeverWaits(MemoryBroker):
    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:  # noqa: ARG002
        return super().acquire(queues, limit=limit, wait=0, lease=lease)


@wrong_broker("prompt", "looks once a poll of seven seconds")
class PollsSlowly(MemoryBroker):
    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        taken = super().acquire(queues, limit=limit, wait=0, lease=lease)
        if taken or wait <= 0 or limit <= 0:
            return taken
        time.sleep(min(wait, 7))
        return super().acquire(queues, limit=limit, wait=0, lease=lease)


@wrong_broker("prompt", "spins while it waits")
class Spins(MemoryBroker):
    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        deadline = time.monotonic() + wait
        while True:
            taken = super().acquire(queues, limit=limit, wait=0, lease=lease)
            if taken or time.monotonic() >= deadline or limit <= 0:
                return taken


@wrong_broker("prompt", "waits ten seconds longer than it may")
class WaitsTooLong(MemoryBroker):
    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        return super().acquire(queues, limit=limit, wait=wait + 10 if wait else 0, lease=lease)


@wrong_broker("prompt", "waits until the limit is reached")
class WaitsForAll(MemoryBroker):
    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        taken: list[Delivery] = []
        deadline = time.monotonic() + wait
        while True:
            left = max(0.0, deadline - time.monotonic())
            taken += super().acquire(queues, limit=limit - len(taken), wait=min(left, 0.05), lease=lease)
            if len(taken) >= limit or left <= 0:
                return taken


@wrong_broker("prompt", "waits a quarter of a second for more where more is asked for")
class Lingers(MemoryBroker):
    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        taken = super().acquire(queues, limit=limit, wait=wait, lease=lease)
        if taken and wait > 0 and limit - len(taken) >= 20:
            time.sleep(min(wait, 0.25))
            taken += super().acquire(queues, limit=limit - len(taken), wait=0, lease=lease)
        return taken


@wrong_broker("prompt", "a wait of less than a millisecond has no end")
class EndlessBelowMillisecond(MemoryBroker):
    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        return super().acquire(queues, limit=limit, wait=math.inf if 0 < wait < 0.001 else wait, lease=lease)


@wrong_broker("prompt", "cannot wait for longer than 32 bits of milliseconds")
class WaitsOverflow(MemoryBroker):
    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        if wait >= 2**31 / 1000:
            raise OverflowError("timestamp out of range for platform time_t")
        return super().acquire(queues, limit=limit, wait=wait, lease=lease)


@wrong_broker("prompt", "is not woken by what another object enqueues")
class DeafToOthers(MemoryBroker):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.own = threading.Event()

    def enqueue(self, messages: Sequence[Message]) -> None:
        super().enqueue(messages)
        self.own.set()

    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        taken = super().acquire(queues, limit=limit, wait=0, lease=lease)
        if taken or wait <= 0 or limit <= 0:
            return taken
        self.own.clear()
        self.own.wait(wait)
        return super().acquire(queues, limit=limit, wait=0, lease=lease)


@wrong_broker("prompt", "is not woken by an eta that comes due")
class SleepsPastEtas(MemoryBroker):
    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        store = self._store
        with store.changed:
            store.queues.ring(store.clock.time())
            taken = self._take(queues, limit, store.clock.time(), lease)
            if taken or wait <= 0 or limit <= 0:
                return taken
            store.changed.wait(wait)
            store.queues.ring(store.clock.time())
            return self._take(queues, limit, store.clock.time(), lease)


@wrong_broker("prompt", "of several queues, it is woken by what falls due in the last alone")
class SleepsByLastQueue(MemoryBroker):
    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        store, clock = self._store, self._store.clock
        until = clock.time() + wait
        with store.changed:
            while True:
                now = clock.time()
                store.queues.ring(now)
                taken = self._take(queues, limit, now, lease)
                if taken or now >= until or limit <= 0 or self._closed:
                    return taken
                alarms = (
                    [entry.alarm for entry in store.queues.by_id.values() if entry.message.queue == queues[-1]]
                    if queues
                    else []
                )
                clock.wait(store.changed, min([until, *alarms]) - now)


class Polls(MemoryBroker):
    """Looks, sleeps, and looks again."""

    def looked_for(self, queues: Sequence[str], waited: float) -> Sequence[str]:  # noqa: ARG002
        """The queues at which it looks, so many seconds after the beginning."""
        return queues

    def pause(self, waited: float) -> float:
        """Seconds until the next look, so many seconds after the beginning."""
        raise NotImplementedError

    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        began = time.monotonic()
        while True:
            waited = time.monotonic() - began
            asked = self.looked_for(queues, waited) if waited < wait else queues
            taken = super().acquire(asked, limit=limit, wait=0, lease=lease)
            if taken or waited >= wait or limit <= 0 or self._closed:
                return taken
            time.sleep(min(wait - waited, self.pause(waited)))


@wrong_broker("prompt", "looks each 0.3 seconds, and declares less")
class LooksEachThird(Polls):
    def pause(self, waited: float) -> float:  # noqa: ARG002
        return 0.3


@wrong_broker("prompt", "the pause between two looks is a tenth of the time that it has waited")
class LooksEverMoreRarely(Polls):
    def pause(self, waited: float) -> float:
        return max(0.005, waited / 10)


@wrong_broker("prompt", "looks at the second queue each half a second, and at the first all the time")
class NeglectsSecondQueue(Polls):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.looks = threading.local()

    def looked_for(self, queues: Sequence[str], waited: float) -> Sequence[str]:
        number = int(waited / 0.5)
        last, self.looks.number = getattr(self.looks, "number", 0), number
        return queues[:1] if waited > 0 and number in {0, last} else queues

    def pause(self, waited: float) -> float:  # noqa: ARG002
        return 0.005


@wrong_broker("prompt", "misses what is sent between its look and its sleep")
class MissesWhatComesBetween(MemoryBroker):
    longest_sleep = math.inf

    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        store, clock = self._store, self._store.clock
        until = clock.time() + wait
        while True:
            taken = super().acquire(queues, limit=limit, wait=0, lease=lease)
            left = until - clock.time()
            if taken or left <= 0 or limit <= 0 or self._closed:
                return taken
            with store.changed:
                alarm = store.queues.next_alarm() - clock.time()
                clock.wait(store.changed, max(0.0, min(left, alarm, self.longest_sleep)))


@wrong_broker("prompt", "misses what is sent before its sleep, and looks again after a second")
class LooksAgainASecondLate(MissesWhatComesBetween):
    longest_sleep = 1.0
