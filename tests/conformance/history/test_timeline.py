"""A timeline says what happened to one message in each call."""

from __future__ import annotations

from anybroker.broker import Message
from anybroker.memory import MemoryBroker
from anybroker_conformance.history.recorder import Journal, RecordedBroker
from anybroker_conformance.history.timeline import timeline


def test_the_same_id_twice_in_one_call_is_told() -> None:
    journal = Journal()
    broker = RecordedBroker(MemoryBroker(), journal, "consumer")
    same = Message("same", "q", b"x")
    broker.enqueue([same, Message("other", "q", b""), same])
    broker.enqueue([same])
    twice, once = timeline(journal.history(), "same")
    assert twice.endswith("in 'q', 2 times (one of 3)")
    assert once.endswith("in 'q'")
