"""What makes gRPC survive ``os.fork``: support that must be switched on before it is loaded, and a gate.

gRPC prepares itself for a fork only while no other thread is inside it (``GRPC_ENABLE_FORK_SUPPORT``, and
"gRPC Python fork support"); else the child's calls hang for ever. So no call of this package stays inside: each is
started, waited for outside, and its result taken; and who forks waits until nobody is inside, and lets nobody in.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SUPPORT = "GRPC_ENABLE_FORK_SUPPORT"
PATIENCE = 5.0
"""Seconds for which a fork waits; a start takes microseconds."""

if "grpc" not in sys.modules:
    os.environ.setdefault(SUPPORT, "1")


class ForkGate:
    """Lets any number of threads in, and none while this process forks."""

    def __init__(self) -> None:
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._close, after_in_parent=self._open, after_in_child=self._reset)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be inside gRPC, for a moment."""
        with self._changed:
            self._changed.wait_for(lambda: not self._forks)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def _reset(self) -> None:
        """In the child nobody is inside; a lock that another thread held is nobody's."""
        self._changed = threading.Condition(threading.Lock())
        self._inside = self._forks = 0
        self.making = threading.Lock()
        """Held while what a process has one of is made; a new one in the child."""
        self.creating = threading.Lock()
        """Held while a topic and its subscription are created in the service; a new one in the child."""

    def _close(self) -> None:
        with self._changed:
            self._forks += 1
            self._changed.wait_for(lambda: not self._inside, PATIENCE)

    def _open(self) -> None:
        with self._changed:
            self._forks -= 1
            self._changed.notify_all()


gate = ForkGate()
"""Of this process: a fork concerns all that use gRPC in it."""
