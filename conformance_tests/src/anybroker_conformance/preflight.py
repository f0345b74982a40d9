"""What is looked at before any law: whether the broker can be made, is one, and does not contradict itself."""

from __future__ import annotations

import inspect
import secrets
from typing import TYPE_CHECKING, Any

from anybroker.broker import Broker, Inspect, Message, Overview
from anybroker.capabilities import Capabilities
from anybroker.errors import AnybrokerError, BrokerUnavailable
from anybroker.loading import redact

if TYPE_CHECKING:
    from anybroker_conformance.backend.suite import BackendConformance
    from anybroker_conformance.suite import BrokerConformance

_sharing: dict[type, bool] = {}


def objects_share(suite: BrokerConformance) -> bool:
    """Whether two objects of a factory see the same messages."""
    kind = type(suite)
    if kind not in _sharing:
        first, second = suite.connect(), suite.connect()
        queue = f"share{secrets.token_hex(4)}"
        try:
            first.enqueue([Message(queue, queue, b"")])
            _sharing[kind] = bool(second.ack(second.acquire([queue], limit=1, wait=0.2, lease=5)))
        finally:
            first.close()
            second.close()
    return _sharing[kind]


def problem(suite: BrokerConformance | BackendConformance) -> str | None:
    """Why a broker or a result backend cannot be tested at all, in one line; None when it can."""
    from anybroker_conformance.backend import preflight as of_backend
    from anybroker_conformance.backend.suite import BackendConformance

    try:
        if suite.server is not None:
            suite.server.start()
    except Exception as error:
        return f"server.start() raised {type(error).__name__}: {one_line(error)}"
    if isinstance(suite, BackendConformance):
        return of_backend.problem(suite)
    try:
        broker: Any = suite.connect()
    except Exception as error:
        return f"connect() raised {type(error).__name__}: {one_line(error)}"
    fault = (
        protocol_fault(broker, Broker, ("enqueue", "acquire", "ack", "update", "extend", "close"))
        or _declaration(broker)
        or _answers(broker)
    )
    closing = closing_fault(broker)
    return fault or closing


def closing_fault(adapter: Any) -> str | None:
    """Why an adapter cannot be closed, in one line."""
    try:
        adapter.close()
    except Exception as error:
        return f"close() raised {type(error).__name__}: {one_line(error)}"
    return None


def protocol_fault(broker: object, protocol: type, verbs: tuple[str, ...]) -> str | None:
    """Which verb of a protocol an adapter lacks or cannot be called by, in one line."""
    name = type(broker).__name__
    for verb in verbs:
        method = getattr(broker, verb, None)
        if not callable(method):
            return f"{name} has no method {verb}(); see {protocol.__module__}.{protocol.__name__}"
        wanted = inspect.signature(getattr(protocol, verb))
        if fault := _signature_fault(inspect.signature(method), wanted):
            shown = str(wanted).replace("(self, ", "(").replace("(self)", "()").replace("'", "")
            return f"{name}.{verb}() {fault}; it is called as {verb}{shown}"
    return None


def _signature_fault(actual: inspect.Signature, wanted: inspect.Signature) -> str | None:
    parameters = [one for one in wanted.parameters.values() if one.name != "self"]
    required = [one for one in parameters if one.default is inspect.Parameter.empty]
    for chosen in (parameters, required):
        positional = [one for one in chosen if one.kind is not inspect.Parameter.KEYWORD_ONLY]
        named = {one.name: None for one in chosen if one.kind is inspect.Parameter.KEYWORD_ONLY}
        try:
            actual.bind(*(None for _ in positional), **named)
        except TypeError as error:
            return f"cannot be called: {error}"
    return None


def _declaration(broker: Any) -> str | None:
    name = type(broker).__name__
    declared = getattr(broker, "capabilities", None)
    if not isinstance(declared, Capabilities):
        return f"{name}.capabilities is {declared!r:.80}, not anybroker.capabilities.Capabilities"
    negative = [
        field
        for field in ("max_body", "max_lease", "delay_precision", "expiry_bound", "transit", "wake_bound", "wait_slack")
        if not getattr(declared, field) >= 0
    ]
    if negative:
        return f"{name}.capabilities.{negative[0]} is {getattr(declared, negative[0])!r}; it cannot be negative"
    if declared.priorities and not declared.priorities[0] <= 0 <= declared.priorities[1]:
        return f"{name}.capabilities.priorities is {declared.priorities}; 0, the default, must lie within"
    if declared.min_lease > declared.max_lease:
        bounds = f"min_lease {declared.min_lease:g} > max_lease {declared.max_lease:g}"
        return f"{name}.capabilities contradicts itself: {bounds}"
    declares = {
        "inspect": (declared.inspect, Inspect, ("queues", "stats", "peek", "remove", "purge")),
        "overview": (declared.overview, Overview, ("known_queues", "estimate", "clear")),
    }
    for ability, (there, protocol, verbs) in declares.items():
        if there and (missing := protocol_fault(broker, protocol, verbs)):
            return f"{missing} (capabilities.{ability} declares it)"
    return None


def _answers(broker: Any) -> str | None:
    try:
        broker.acquire(
            [f"preflight{secrets.token_hex(4)}"], limit=1, wait=0, lease=max(1.0, broker.capabilities.min_lease)
        )
    except BrokerUnavailable as error:
        return f"the broker does not answer: {one_line(error)}"
    except AnybrokerError as error:
        return f"an acquire of an empty queue raised {type(error).__name__}: {one_line(error)}"
    except Exception as error:
        return (
            f"an acquire of an empty queue raised {type(error).__name__}, which is no AnybrokerError: {one_line(error)}"
        )
    return None


def one_line(error: BaseException) -> str:
    """The text of an error in one line, without credentials."""
    return redact(" ".join(str(error).split()))
