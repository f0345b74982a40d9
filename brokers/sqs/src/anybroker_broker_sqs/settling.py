"""One settle of many deliveries: who may be settled, what came of each, and what the caller is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anybroker.errors import LeaseLost
from anybroker_broker_sqs.leases import Lease

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from anybroker.errors import AnybrokerError


class Settling:
    """An ``ack`` or an ``update``. A call that raises may be repeated, and then tells of what it had done before."""

    def __init__(self, tokens: Sequence[Hashable]) -> None:
        self.claimed: dict[int, Lease] = {}
        """What is to be settled, by its place in the call."""
        self._finished: list[Lease] = []
        """Settled, by this call or by one before it, and answered unless this one raises."""
        self._answers = [False] * len(tokens)
        self._error: AnybrokerError | None = None
        for place, token in enumerate(tokens):
            if isinstance(token, Lease) and token.claim():
                if token.settled:
                    self._answers[place] = True
                    self._finished.append(token)
                else:
                    self.claimed[place] = token

    def finish(self, place: int, error: AnybrokerError | None) -> None:
        """As :meth:`end`, of one with which nothing else is to be done in this call."""
        self.end(place, error)
        self._finished += [self.claimed.pop(place)] if place in self.claimed else []

    def end(self, place: int, error: AnybrokerError | None) -> None:
        """One is settled, or was lost (``LeaseLost``), or nobody knows."""
        if error is None:
            self._answers[place] = True
        else:
            lease = self.claimed.pop(place)
            if not isinstance(error, LeaseLost):
                self._error = self._error or error
                lease.release()

    def answers(self) -> list[bool]:
        """One bool each. Raises the first error of those that are neither settled nor lost."""
        if self._error is not None:
            for lease in (*self.claimed.values(), *self._finished):
                lease.settled = True
                lease.release()
            raise self._error
        return self._answers
