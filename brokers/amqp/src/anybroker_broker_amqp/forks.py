"""Who has to begin anew in the child of a fork (law 12)."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forgetful(Protocol):
    """Has connections."""

    def forget(self) -> None:
        """In the child: leave the parent's connections alone, and its locks, which nobody will release here."""
        ...


_watched: weakref.WeakSet[Forgetful] = weakref.WeakSet()


def watch(one: Forgetful) -> None:
    """Call its ``forget`` in the child of every fork from now on."""
    _watched.add(one)


def _after_fork_in_child() -> None:
    for one in list(_watched):
        one.forget()


os.register_at_fork(after_in_child=_after_fork_in_child)
