"""What a broker object has in one process, and what one of its receives brought."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from anybroker_broker_sqs.leases import Held

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker.broker import Delivery
    from anybroker.errors import AnybrokerError
    from anybroker_broker_sqs.connection import Connection
    from anybroker_broker_sqs.polls import Polls


class Process:
    """Connections, leases and polls; the child of a fork has others. ``polls`` makes those of this process."""

    def __init__(self, connection: Connection, polls: Callable[[Process], Polls]) -> None:
        self.connection = connection
        self.held = Held()
        self.busy: set[str] = set()
        """Queues of which the last receive brought all that it asked for."""
        self.closed = False
        self.polls = polls(self)


class Portion(NamedTuple):
    """What one receive brought."""

    due: list[Delivery]
    full: bool
    """Whether it was all that was asked for, due or not, so that there may be more."""
    error: AnybrokerError | None = None

    def raise_error(self) -> None:
        """Raise what the receive has raised, if it has."""
        if self.error is not None:
            raise self.error
