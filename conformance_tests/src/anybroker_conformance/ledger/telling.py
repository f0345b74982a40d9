"""Law 15 where a service only tells of its queues (``Capabilities.overview``): a right broker, and wrong ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from anybroker.broker import Estimate
from anybroker.errors import Unsupported
from anybroker.memory import MemoryBroker
from anybroker_conformance.ledger.registry import wrong_broker

if TYPE_CHECKING:
    from anybroker.broker import Stats

replace = msgspec.structs.replace


class Telling(MemoryBroker):
    """Right: cannot be looked into, tells how many messages a queue holds, and clears queues."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.capabilities = replace(self.capabilities, inspect=False, overview=True)

    def known_queues(self) -> list[str]:
        return super().queues()

    def estimate(self, queue: str) -> Estimate:
        stats = super().stats(queue)
        return Estimate(ready=stats.ready, leased=stats.leased, delayed=stats.delayed)

    def clear(self, queue: str) -> None:
        super().purge(queue)

    def queues(self) -> NoReturn:
        raise Unsupported("there is an overview only")

    def stats(self, queue: str) -> Stats:
        raise Unsupported(f"of {queue!r} there is an overview only")

    def peek(self, queue: str, **asked: Any) -> NoReturn:
        raise Unsupported(f"of {queue!r} there is an overview only: {asked}")

    def remove(self, queue: str, ids: Any) -> NoReturn:
        raise Unsupported(f"of {queue!r} there is an overview only: {ids}")

    def purge(self, queue: str) -> NoReturn:
        raise Unsupported(f"of {queue!r} there is an overview only")


@wrong_broker("honest", "counts what is leased among what is ready")
class TellsLeasedAsReady(Telling):
    def estimate(self, queue: str) -> Estimate:
        about = super().estimate(queue)
        return Estimate(ready=(about.ready or 0) + (about.leased or 0), delayed=about.delayed)


@wrong_broker("honest", "what it tells of a queue is never brought up to date")
class TellsOnce(Telling):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.told: dict[str, Estimate] = {}

    def estimate(self, queue: str) -> Estimate:
        return self.told.setdefault(queue, super().estimate(queue))


@wrong_broker("honest", "knows only the first two queues")
class KnowsTwoQueues(Telling):
    def known_queues(self) -> list[str]:
        return super().known_queues()[:2]


@wrong_broker("honest", "clear leaves the last ten messages")
class ClearsSome(Telling):
    def clear(self, queue: str) -> None:
        ids = [one.id for one in MemoryBroker.peek(self, queue, limit=1000)]
        MemoryBroker.remove(self, queue, ids[:-10])


@wrong_broker("honest", "clear empties every queue")
class ClearsEverything(Telling):
    def clear(self, queue: str) -> None:
        for name in {queue, *self.known_queues()}:
            super().clear(name)


@wrong_broker("honest", "clear empties the queues whose names begin so, too")
class ClearsByPrefix(Telling):
    def clear(self, queue: str) -> None:
        for name in {queue, *self.known_queues()}:
            if name.startswith(queue):
                super().clear(name)


@wrong_broker("honest", "declares no overview, and gives one")
class TellsInSecret(Telling):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.capabilities = replace(self.capabilities, overview=False)
