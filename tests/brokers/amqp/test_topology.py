"""Declaring where RabbitMQ has too much to do; no server needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pika import exceptions, spec

from anybroker.errors import BrokerUnavailable
from anybroker_broker_amqp import topology
from anybroker_broker_amqp.topology import Topology
from anybroker_broker_amqp.translation import meaning
from anybroker_broker_amqp.urls import Options

if TYPE_CHECKING:
    from collections.abc import Sequence

BUSY = exceptions.ConnectionClosedByBroker(541, "INTERNAL_ERROR - Cannot declare a queue: cluster_not_formed")
GONE = exceptions.ConnectionClosedByBroker(320, "CONNECTION_FORCED - shutdown")


class Busy:
    """Stands for the links to a server that closes the connection some times, and then declares."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = [*errors]
        self.asked: list[list[str]] = []

    def ask(self, methods: Sequence[Any]) -> list[Any]:
        if isinstance(methods[0], spec.Exchange.Declare):
            raise meaning(exceptions.ChannelClosedByBroker(404, "NOT_FOUND - no delays"), "amqp://here")
        self.asked.append([method.queue for method in methods])
        if self._errors:
            raise meaning(self._errors.pop(), "amqp://here")
        return [None for _ in methods]


def test_a_queue_that_finds_no_leader_is_declared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topology, "_PAUSES", (0.0, 0.0))
    links = Busy(BUSY, BUSY)
    declared = Topology(links, Options())  # type: ignore[arg-type]
    declared.declare(["a", "b"])
    declared.declare(["a"])
    assert links.asked == [["a", "b"]] * 3


@pytest.mark.parametrize("errors", [[BUSY] * 3, [GONE]])
def test_not_for_ever_and_not_for_other_reasons(monkeypatch: pytest.MonkeyPatch, errors: list[Exception]) -> None:
    monkeypatch.setattr(topology, "_PAUSES", (0.0, 0.0))
    links = Busy(*errors)
    with pytest.raises(BrokerUnavailable, match=str(errors[0].args[1])):
        Topology(links, Options()).declare(["a"])  # type: ignore[arg-type]
    assert len(links.asked) == len(errors)
