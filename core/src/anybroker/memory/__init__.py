"""The embedded broker and result backend that live in memory: the reference implementation of both contracts.

Testing mode runs on them too: with a :class:`~anybroker.clock.ManualClock` a delay of two days takes no time.
"""

from __future__ import annotations

from anybroker.memory.backend import MemoryBackend
from anybroker.memory.broker import MemoryBroker

__all__ = ["MemoryBackend", "MemoryBroker"]
