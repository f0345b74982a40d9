"""A fork of this process that does one thing with what it has inherited."""

from __future__ import annotations

import faulthandler
import os
import selectors
import signal
import tempfile
import time
import warnings
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import msgspec

from anybroker_conformance.faults.peer import exception
from anybroker_conformance.faults.remote import ANSWERS, Answer, describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 30.0
"""Seconds within which a child must have finished."""


_WHERE = signal.SIGUSR2
"""Asks a child that hangs where it is."""


class ChildHangs(AssertionError):
    """The child of a fork did not finish in time; the message says where it was."""


def in_child(function: Callable[[], Any], *, within: float = PATIENCE) -> Any:
    """Fork, call ``function`` in the child, and return what it returned, as JSON can say it.

    Raises what it raised, ``ChildHangs`` when it did not finish ``within`` so many seconds, and ``ChildHangs`` also
    when the process died. The child ends without any clean-up of Python's.
    """
    if not hasattr(os, "fork"):
        raise NotImplementedError("this operating system has no fork")
    reader, writer = os.pipe()
    with tempfile.TemporaryFile() as stacks, _told_on(_WHERE, stacks):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            child = os.fork()
        if child == 0:
            _be_child(function, writer, stacks, within)
        os.close(writer)
        try:
            said = _read(reader, within + 2)
        finally:
            os.close(reader)
            status = _end(child)
        if not said:
            stacks.seek(0)
            where = stacks.read().decode(errors="replace").strip()
            how = f"hangs since {within:g} s" if where else f"died with status {os.waitstatus_to_exitcode(status)}"
            raise ChildHangs("\n".join(filter(None, (f"the child of a fork {how}", where))))
    answer = ANSWERS.decode(said)
    if answer.failure is not None:
        raise exception(answer.failure, "the child of the fork")
    return answer.value


def _be_child(function: Callable[[], Any], writer: int, stacks: IO[bytes], within: float) -> None:
    """Never returns: there is only the thread that forked, and nothing above it must run twice."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        faulthandler.dump_traceback_later(within, file=stacks, exit=True)
        try:
            answer = Answer(value=function())
        except BaseException as error:
            answer = Answer(failure=describe(error))
        said = memoryview(msgspec.json.encode(answer))
        while said:
            said = said[os.write(writer, said) :]
        status = 0
    finally:
        os._exit(status)


def _read(reader: int, within: float) -> bytes:
    """All that the child says, or nothing if it has not finished in time."""
    said = b""
    deadline = time.monotonic() + within
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            read = os.read(reader, 65536)
            if not read:
                return said
            said += read
    return b""


@contextmanager
def _told_on(number: signal.Signals, stacks: IO[bytes]) -> Iterator[None]:
    """Let this process, and its forks, write on this signal where they are, also within a hook of the fork itself."""
    faulthandler.register(number, file=stacks)
    try:
        yield
    finally:
        faulthandler.unregister(number)


def _end(child: int) -> int:
    """Kill what may be left of a child, which is to say where it is; returns how it ended."""
    for number in (_WHERE, signal.SIGKILL):
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                return status
            time.sleep(0.002)
        os.kill(child, number)
    return os.waitpid(child, 0)[1]
