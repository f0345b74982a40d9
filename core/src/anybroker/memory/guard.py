"""The lock around what lives in memory, and what a fork does to it."""

from __future__ import annotations

import os
import threading
import weakref


class Guarded:
    """Something that several threads share. ``changed`` guards it, and wakes those who wait for a change.

    A fork waits until no thread is in the middle of a change, so that the child's copy is whole, and the child gets
    a fresh condition: the old one knows waiters that do not exist there.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        with _registry:
            _guarded.add(self)


_registry = threading.Lock()
_guarded: weakref.WeakSet[Guarded] = weakref.WeakSet()
_held: list[Guarded] = []


def _before_fork() -> None:
    _registry.acquire()
    _held[:] = _guarded
    for guarded in _held:
        guarded.changed.acquire()


def _after_fork_in_parent() -> None:
    for guarded in _held:
        guarded.changed.release()
    _held.clear()
    _registry.release()


def _after_fork_in_child() -> None:
    for guarded in _held:
        guarded.changed = threading.Condition()
    _held.clear()
    _registry.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
