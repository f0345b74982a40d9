"""Wrong brokers of law 13: what they do when the connection is cut and when the server is away."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from anybroker.capabilities import Guarantee
from anybroker.errors import BrokerUnavailable
from anybroker_conformance.faults.reference import TcpBroker
from anybroker_conformance.faults.reference.wire import Reply, Request, Sent
from anybroker_conformance.ledger.registry import wrong_broker

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from anybroker.broker import Delivery, Message


@wrong_broker("reconnects", "lets the client library's own exception through")
class RaisesItsOwn(TcpBroker):
    def _call(self, request: Request) -> Reply:
        try:
            return super()._call(request)
        except BrokerUnavailable as error:
            raise error.__cause__ or error from None


@wrong_broker("reconnects", "does not work again once the connection was cut")
class NeverReconnects(TcpBroker):
    broken = False

    def _call(self, request: Request) -> Reply:
        if self.broken:
            raise BrokerUnavailable("not connected")
        try:
            return super()._call(request)
        except BrokerUnavailable:
            self.broken = True
            raise


@wrong_broker("reconnects", "sends an ack again whose reply was lost, and believes the second answer")
class SendsAcksAgain(TcpBroker):
    def _call(self, request: Request) -> Reply:
        try:
            return super()._call(request)
        except BrokerUnavailable:
            if request.verb != "ack":
                raise
            return super()._call(request)


@wrong_broker("reconnects", "an enqueue that is cut returns as if it had been done")
class SwallowsCuts(TcpBroker):
    def enqueue(self, messages: Sequence[Message]) -> None:
        try:
            super().enqueue(messages)
        except BrokerUnavailable:
            time.sleep(0.01)


@wrong_broker("reconnects", "an acquire that is cut returns nothing, as if nothing were there")
class NothingThere(TcpBroker):
    def _call(self, request: Request) -> Reply:
        try:
            return super()._call(request)
        except BrokerUnavailable:
            if request.verb == "acquire":
                return Reply()
            raise


@wrong_broker("reconnects", "close gives back nothing once a connection has been cut")
class KeepsAfterCuts(TcpBroker):
    def _call(self, request: Request) -> Reply:
        try:
            return super()._call(request)
        except BrokerUnavailable:
            self._held.clear()
            raise


@wrong_broker("reconnects", "while the server is away, the queues are those that were there before")
class RemembersQueues(TcpBroker):
    known: list[str] | None = None

    def queues(self) -> list[str]:
        try:
            self.known = super().queues()
        except BrokerUnavailable:
            if self.known is None:
                raise
        return self.known


@wrong_broker("reconnects", "a call does not return while the server is away")
class HangsWhileAway(TcpBroker):
    def _call(self, request: Request) -> Reply:
        deadline = time.monotonic() + 300
        while True:
            try:
                return super()._call(request)
            except BrokerUnavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)


@wrong_broker("reconnects", "its server forgets acks of its last moment also when it is stopped in good order")
class ForgetsLastMoment(TcpBroker):
    forgets = 0.2
    """Seconds before its last answer."""
    answered = 0.0
    """When that was, whichever object had asked."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.capabilities = msgspec.structs.replace(self.capabilities, final=Guarantee.BEST_EFFORT)
        self.acked: deque[tuple[float, Message]] = deque()
        self.forgotten: list[Message] = []
        self.remembering = threading.Lock()

    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        answers = super().ack(deliveries)
        now = time.monotonic()
        with self.remembering:
            self.acked.extend((now, one.message) for one, gone in zip(deliveries, answers, strict=True) if gone)
            while self.acked and self.acked[0][0] < now - self.forgets:
                self.acked.popleft()
        return answers

    def _call(self, request: Request) -> Reply:
        with self.remembering:
            if self.forgotten:
                super()._call(Request("enqueue", messages=[Sent.of(one) for one in self.forgotten]))
                self.forgotten.clear()
        try:
            reply = super()._call(request)
        except BrokerUnavailable as error:
            if isinstance(error.__cause__, ConnectionRefusedError):  # it is not the connection that died
                since = ForgetsLastMoment.answered - self.forgets
                with self.remembering:
                    self.forgotten += [one for moment, one in self.acked if moment > since]
                    self.acked.clear()
            raise
        ForgetsLastMoment.answered = time.monotonic()
        return reply


@wrong_broker("reconnects", "when its server dies, acks of a minute are forgotten, and not of its last moment alone")
class ForgetsLastMinute(ForgetsLastMoment):
    forgets = 60.0


@wrong_broker(
    "concurrent", "the child of a fork gives back what its parent holds, if it closes the object before all else"
)
class ClosesForItsParent(TcpBroker):
    def _start_afresh(self) -> None:
        held = vars(self).get("_held", {})
        super()._start_afresh()
        self._inherited = held

    def _call(self, request: Request) -> Reply:
        self._inherited = {}
        return super()._call(request)

    def close(self) -> None:
        self._held |= self._inherited
        super().close()


@wrong_broker("final", "an ack is answered when its lease was found valid, and sent a moment later, or before close")
class AcksAMomentLater(TcpBroker):
    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.capabilities = msgspec.structs.replace(self.capabilities, inspect=False)
        self.unsent: dict[Hashable, Delivery] = {}

    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        first = {one.token: one for one in deliveries if one.token not in self.unsent}
        held = dict(zip(first, super().extend([*first.values()], lease=1.0), strict=True))
        self.unsent |= {token: one for token, one in first.items() if held[token]}
        later = threading.Timer(0.05, self.send)
        later.daemon = True
        later.start()
        return [held.pop(one.token, False) for one in deliveries]

    def send(self) -> None:
        """What was answered, and not sent yet."""
        super().ack([*self.unsent.values()])
        self.unsent.clear()

    def close(self) -> None:
        self.send()
        super().close()
