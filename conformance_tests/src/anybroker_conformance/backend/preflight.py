"""What is looked at before any law: whether the backend can be made, is one, and does not contradict itself."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from anybroker.backend import Result, ResultBackend, State
from anybroker.capabilities import BackendCapabilities
from anybroker.errors import AnybrokerError, BrokerUnavailable
from anybroker_conformance.preflight import closing_fault, one_line, protocol_fault

if TYPE_CHECKING:
    from anybroker_conformance.backend.suite import BackendConformance

VERBS = ("store", "fetch", "wait", "forget", "join", "seal", "claim", "release", "close")
_sharing: dict[type, bool] = {}


def objects_share(suite: BackendConformance) -> bool:
    """Whether two objects of a factory see the same results, groups or locks."""
    kind = type(suite)
    if kind not in _sharing:
        first, second = suite.connect(), suite.connect()
        name = f"share{secrets.token_hex(4)}"
        try:
            first.store([Result(name, State.SUCCEEDED, 1)], ttl=60)
            _sharing[kind] = (
                second.fetch([name]) != [None]
                or bool(first.claim(name, ttl=5) and second.claim(name, ttl=5) is None)
                or not (first.join(name, "a", size=2) or not second.join(name, "b", size=2))
            )
        finally:
            first.close()
            second.close()
    return _sharing[kind]


def problem(suite: BackendConformance) -> str | None:
    """Why a backend cannot be tested at all, in one line; None when it can."""
    try:
        backend: Any = suite.connect()
    except Exception as error:
        return f"connect() raised {type(error).__name__}: {one_line(error)}"
    fault = protocol_fault(backend, ResultBackend, VERBS) or _declaration(backend) or _answers(backend)
    closing = closing_fault(backend)
    return fault or closing


def _declaration(backend: Any) -> str | None:
    name = type(backend).__name__
    declared = getattr(backend, "capabilities", None)
    if not isinstance(declared, BackendCapabilities):
        return f"{name}.capabilities is {declared!r:.80}, not anybroker.capabilities.BackendCapabilities"
    for field in ("max_body", "ttl_precision", "wake_bound"):
        value = getattr(declared, field)
        if type(value) not in {int, float} or not 0 <= value < float("inf"):
            return f"{name}.capabilities.{field} is {value!r}; it is a finite number, and not negative"
    return None


def _answers(backend: Any) -> str | None:
    name = f"preflight{secrets.token_hex(4)}"
    try:
        answer = backend.fetch([name])
    except BrokerUnavailable as error:
        return f"the backend does not answer: {one_line(error)}"
    except AnybrokerError as error:
        return f"a fetch of an unknown id raised {type(error).__name__}: {one_line(error)}"
    except Exception as error:
        return f"a fetch of an unknown id raised {type(error).__name__}, which is no AnybrokerError: {one_line(error)}"
    if answer != [None]:
        return f"a fetch of an unknown id returned {answer!r:.80}, not [None]"
    return None
