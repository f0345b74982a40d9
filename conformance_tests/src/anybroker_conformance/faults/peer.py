"""Another process with the broker under test: told what to do, killed, stopped and woken, each confirmed."""

from __future__ import annotations

import inspect
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, cast

import msgspec

from anybroker import errors
from anybroker_conformance.faults import NotFired, clock
from anybroker_conformance.faults.remote import ANSWERS, Failure, Origin, Ready
from anybroker_conformance.subject import LawBroken, Untested

if TYPE_CHECKING:
    from anybroker_conformance.backend.suite import BackendConformance
    from anybroker_conformance.suite import BrokerConformance

START = 60.0
"""Seconds within which a process must have made its broker."""
ANSWER = 60.0
"""Seconds within which an answer must come, beyond what the request itself waits for."""
GRACE = 5.0
"""Seconds for a process to close its broker and end by itself; then it is killed."""
_CLOCK_TOLERANCE = 20.0
_LAST_WORDS = 2000


class PeerError(Exception):
    """Something was raised in the other process that has no meaning of its own here."""


class PeerDied(PeerError):
    """The other process is no more."""


class PeerSilent(AssertionError):
    """The other process gave no answer in time."""


class Peer:
    """Another process with a broker object of its own on the same messages.

    ``call(verb, **arguments)`` asks and waits for the answer. The verbs:

    - ``acquire(queues, limit=1, wait=0, lease=60)``: ids of what was delivered, which it holds from then on
    - ``ack()``, ``update(body=None, queue=None)``, ``extend(lease)``: of all that it holds, in order; lists of bools
    - ``drop()``: forgets what it holds, settled or not
    - ``enqueue(messages)``, ``close()``
    - ``drain(queue, lease=60, limit=7, quiet=0.3)``: acquires and acknowledges until nothing has come for ``quiet``
      seconds; the ids acknowledged
    - ``run(function="package.module:function", arguments={...})``: ``function(broker, **arguments)``

    What is raised there is raised here, with the remote traceback as a note. Every call is recorded to ``path``.
    ``clock_shift``: seconds by which its wall clock is set forward; see :mod:`anybroker_conformance.faults.clock`.
    """

    program: ClassVar[str] = "anybroker_conformance.faults.remote"
    """The module that runs in the other process."""

    def __init__(self, suite: BrokerConformance | BackendConformance, path: Path, *, clock_shift: float = 0.0) -> None:
        self.path = path
        path.touch()
        self._errors = path.with_suffix(".stderr")
        self._unread = b""
        self._asked: list[str] = []
        origin = _origin(suite, path)
        command = [str(Path(clock.__file__)), str(clock_shift), json.dumps(sys.path)]
        with self._errors.open("wb") as stderr:
            self.process = subprocess.Popen(  # noqa: S603 (our own interpreter)
                [sys.executable, "-P", *command, self.program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                bufsize=0,
                process_group=0,  # the terminal's Ctrl-C is ours; and should we be killed, it is woken and ended
            )
        self._requests = cast("IO[bytes]", self.process.stdin)
        self._answers = cast("IO[bytes]", self.process.stdout)
        try:
            self._send(msgspec.json.encode(origin), "start")
            self._check_clock(msgspec.convert(self.answer(within=START), Ready), clock_shift)
        except BaseException:
            self.end()
            raise

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    def call(self, verb: str, *, within: float = ANSWER, **arguments: Any) -> Any:
        """Have one thing done; returns what came of it."""
        self.ask(verb, **arguments)
        return self.answer(within=within + float(arguments.get("wait", 0)))

    def ask(self, verb: str, **arguments: Any) -> None:
        """Have one thing done, without waiting for it; :meth:`answer` returns what came of it."""
        self._send(msgspec.json.encode({"type": verb, **arguments}), verb)

    def answer(self, *, within: float = ANSWER) -> Any:
        """Return the next answer. Raises what was raised there, ``PeerDied``, or ``PeerSilent``."""
        answer = ANSWERS.decode(self._line(within))
        self._asked.pop(0)
        if answer.failure is not None:
            raise exception(answer.failure)
        return answer.value

    def kill(self) -> None:
        """SIGKILL, and wait until it has died of that."""
        self.process.kill()
        code = self.process.wait(GRACE)
        if code != -signal.SIGKILL:
            raise NotFired(f"{self} was to be killed, but had ended before: it {self._epitaph(code)}")

    def pause(self) -> None:
        """SIGSTOP, and wait until it stands still."""
        self._signal(signal.SIGSTOP, os.WUNTRACED, os.WIFSTOPPED)

    def resume(self) -> None:
        """SIGCONT, and wait until it runs again."""
        self._signal(signal.SIGCONT, os.WCONTINUED, os.WIFCONTINUED)

    def end(self) -> None:
        """Let it close its broker and end; it is killed if it does not. Idempotent."""
        with suppress(OSError):
            self._requests.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            try:
                self.process.wait(GRACE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._answers.close()

    def __repr__(self) -> str:
        """Which process it is."""
        return f"<{self.path.stem}, process {self.pid}>"

    def _send(self, line: bytes, verb: str) -> None:
        try:
            self._requests.write(line + b"\n")
        except BrokenPipeError:
            raise PeerDied(f"{self} {self._epitaph(self.process.wait(GRACE))} before {verb}") from None
        self._asked.append(verb)

    def _line(self, within: float) -> bytes:
        deadline = time.monotonic() + within
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise PeerSilent(f"{self} gave no answer to {self._asked[0]} within {within:g} s")
                read = os.read(self._answers.fileno(), 65536)
                if not read:
                    raise PeerDied(f"{self} {self._epitaph(self.process.wait(GRACE))} during {self._asked[0]}")
                self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _signal(self, number: signal.Signals, option: int, happened: Any) -> None:
        """Send a signal that stops or continues, and wait until the operating system says that it did."""
        if self.process.poll() is not None:
            raise PeerDied(f"{self} {self._epitaph(self.process.returncode)} before {number.name}")
        self.process.send_signal(number)
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline:
            found, status = os.waitpid(self.pid, option | os.WNOHANG)
            if found and happened(status):
                return
            if found and not os.WIFSTOPPED(status) and not os.WIFCONTINUED(status):
                self.process.returncode = os.waitstatus_to_exitcode(status)
                raise PeerDied(f"{self} {self._epitaph(self.process.returncode)} before {number.name}")
            time.sleep(0.002)
        raise NotFired(f"{number.name} had no effect on {self} within {GRACE:g} s")

    def _epitaph(self, code: int) -> str:
        """How it died."""
        how = f"died by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        words = self._errors.read_text(errors="replace").strip()[-_LAST_WORDS:]
        return f"{how}{f' after it wrote: {words}' if words else ''}"

    def _check_clock(self, ready: Ready, shift: float) -> None:
        for shown, real in (
            (ready.time - shift, time.time()),
            (ready.datetime - shift, time.time()),
            (ready.monotonic, time.monotonic()),
        ):
            if not abs(shown - real) < _CLOCK_TOLERANCE:
                raise NotFired(f"the clock of {self} is not shifted by {shift:g} s: {ready}")


def _origin(suite: BrokerConformance | BackendConformance, path: Path) -> Origin:
    kind = type(suite)
    if kind.goes_by_url():
        return Origin(str(path), suite.namespace, suite.url)
    if "<locals>" in kind.__qualname__:
        raise Untested(f"another process cannot import {kind.__qualname__}: it is defined in a function")
    try:
        file = inspect.getfile(kind)
    except (OSError, TypeError):
        raise Untested(f"another process cannot import {kind.__qualname__}: it is in no file") from None
    return Origin(str(path), suite.namespace, suite.url, kind.__module__, str(Path(file).resolve()), kind.__qualname__)


def exception(failure: Failure, where: str = "the other process") -> Exception:
    """What was raised elsewhere, to be raised here."""
    found = getattr(errors, failure.kind, None)
    error: Exception
    if failure.kind == "LawBroken":
        error = LawBroken(failure.text, failure.message_id)
    elif failure.kind == "BrokerUnavailable":
        error = errors.BrokerUnavailable(failure.text, stored=failure.stored)
    elif isinstance(found, type) and issubclass(found, errors.AnybrokerError):
        error = found(failure.text)
    elif failure.kind in {"AssertionError", "WrongAnswer"}:
        error = AssertionError(failure.text)
    else:
        error = PeerError(f"{failure.kind}: {failure.text}")
    error.add_note(f"In {where}:\n{failure.traceback}")
    return error
