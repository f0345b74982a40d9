"""What ``anybroker doctor`` finds out about a broker and a result backend."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import msgspec

from anybroker.backend import Result, State
from anybroker.broker import Message
from anybroker.capabilities import Clock
from anybroker.cli.deadline import NoAnswer, ping, within
from anybroker.cli.exits import FAILED, exit_code
from anybroker.cli.scratch import clear, scratch_name
from anybroker.errors import AnybrokerError
from anybroker.loading import load_backend, load_broker, redact

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker.backend import ResultBackend
    from anybroker.broker import Broker, Delivery
    from anybroker.settings import Settings

CONNECT_WITHIN = 1.0
"""Seconds for the first answer."""
EXAMINE_WITHIN = 15.0
"""Seconds for a round trip with all its calls."""
_LEASE = 30.0
_BODY = bytes(range(256))


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one check."""

    check: str
    ok: bool
    detail: str
    exit_code: int = 0
    """What the command ends with when the check failed."""


class Examination:
    """Checks one after the other, until the first that fails."""

    def __init__(self, settings: Settings) -> None:
        self.findings: list[Finding] = []
        self.opened: dict[str, Broker | ResultBackend] = {}
        """The ``broker`` and the ``backend``, as far as they could be made."""
        self.latency_ms: dict[str, float] = {}
        """By call, as measured here; of one call each, so no more than a hint."""
        self.clock_skew: float | None = None
        """Seconds that the server's clock is ahead; None where it cannot be told."""
        self._settings = settings

    @property
    def exit_code(self) -> int:
        """0, or what the first problem calls for."""
        return next((finding.exit_code for finding in self.findings if not finding.ok), 0)

    def run(self) -> None:
        """Connect, send one message through all six verbs, store one result. Nothing is left behind."""
        url = self._settings.url
        if not self._check("broker", lambda: self._open_broker(url)):
            return
        broker = cast("Broker", self.opened["broker"])
        if (
            self._check("connection", lambda: self._timed("ping", lambda: ping(broker)), deadline=CONNECT_WITHIN)
            and self._check("round trip", lambda: self._round_trip(broker))
            and self._check("backend", self._open_backend)
            and "backend" in self.opened
        ):
            backend = cast("ResultBackend", self.opened["backend"])
            self._check("results", lambda: self._result(backend))

    def close(self) -> None:
        """Free the connections, as far as that is possible in a moment."""
        for one in self.opened.values():
            with suppress(NoAnswer):  # it hangs as its calls did; the process ends without it
                within(CONNECT_WITHIN, one.close)

    def _check(self, name: str, call: Callable[[], str], *, deadline: float = EXAMINE_WITHIN) -> bool:
        """Make one check, whose call returns what it found; False when it raised or did not return in time."""
        try:
            detail = within(deadline, call)
        except Exception as error:
            code, shown = FAILED, f"{type(error).__name__}: {error}"
            if isinstance(error, AnybrokerError):
                code, shown = exit_code(error), str(error)
            self.findings.append(Finding(check=name, ok=False, detail=redact(shown), exit_code=code))
            return False
        self.findings.append(Finding(check=name, ok=True, detail=detail))
        return True

    def _open_broker(self, url: str) -> str:
        self.opened["broker"] = load_broker(url)
        return redact(url)

    def _open_backend(self) -> str:
        url = self._settings.backend_url
        if url is None:
            return "results are off"
        self.opened["backend"] = load_backend(url)
        return redact(url)

    def _round_trip(self, broker: Broker) -> str:
        queue = scratch_name("doctor")
        message = Message(scratch_name("message"), queue, _BODY)
        try:
            self._timed("enqueue", lambda: broker.enqueue([message]))
            delivery = self._taken(broker, message, call="acquire")
            self._settled("extend", lambda: broker.extend([delivery], lease=_LEASE))
            changed = msgspec.structs.replace(message, body=_BODY[::-1])
            self._settled("update", lambda: broker.update([(delivery, changed)]))
            again = self._taken(broker, changed, call="acquire again")
            self._settled("ack", lambda: broker.ack([again]))
        finally:
            clear(broker, queue)
        total = sum(ms for name, ms in self.latency_ms.items() if name != "ping")
        return f"enqueue, acquire, extend, update, acquire, ack in {total:.1f} ms"

    def _taken(self, broker: Broker, expected: Message, *, call: str) -> Delivery:
        before = datetime.now(UTC)
        started = time.perf_counter()
        deliveries = broker.acquire([expected.queue], limit=1, wait=5.0, lease=_LEASE)
        self.latency_ms[call] = (time.perf_counter() - started) * 1000
        if not deliveries:
            raise AnybrokerError("a message that was enqueued was not delivered within 5 s")
        if deliveries[0].message != expected:
            raise AnybrokerError("a message came back other than it went in")
        if broker.capabilities.clock is Clock.SERVER:
            middle = before + timedelta(milliseconds=self.latency_ms[call] / 2)
            self.clock_skew = (deliveries[0].lease_until - middle).total_seconds() - _LEASE
        return deliveries[0]

    def _settled(self, verb: str, call: Callable[[], list[bool]]) -> None:
        answer: list[bool] = []
        self._timed(verb, lambda: answer.extend(call()))
        if answer != [True]:
            raise AnybrokerError(f"{verb} said that a lease was lost after a moment")

    def _result(self, backend: ResultBackend) -> str:
        result = Result(scratch_name("result"), State.SUCCEEDED, 1, _BODY)
        started = time.perf_counter()
        try:
            stored = backend.store([result], ttl=60)
            fetched = backend.fetch([result.id])
        finally:
            backend.forget([result.id])
        if stored != [True] or fetched != [result] or backend.fetch([result.id]) != [None]:
            raise AnybrokerError("a result came back other than it was stored, or after it was forgotten")
        return f"store, fetch, forget, fetch in {(time.perf_counter() - started) * 1000:.1f} ms"

    def _timed(self, name: str, call: Callable[[], Any]) -> str:
        started = time.perf_counter()
        call()
        self.latency_ms[name] = (time.perf_counter() - started) * 1000
        return f"answers in {self.latency_ms[name]:.1f} ms"
