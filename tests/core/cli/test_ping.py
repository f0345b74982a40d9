"""How a command sees that a server answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from anybroker.cli.deadline import ping
from anybroker.loading import load_broker

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from anybroker.broker import Delivery


def test_every_ping_asks_for_one_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that creates what is asked for does not gather a queue for each start of a worker."""
    asked: list[str] = []

    def acquire(queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        assert (limit, wait, lease) == (1, 0, 1)
        asked.extend(queues)
        return []

    broker = load_broker("memory://")
    monkeypatch.setattr(broker, "capabilities", msgspec.structs.replace(broker.capabilities, inspect=False))
    monkeypatch.setattr(broker, "acquire", acquire)
    ping(broker)
    ping(broker)
    assert len(asked) == 2
    assert len(set(asked)) == 1
