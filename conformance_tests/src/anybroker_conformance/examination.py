"""What is found out about an adapter before the first of its laws is tested."""

from __future__ import annotations

import secrets
import sys
import threading
import traceback
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from anybroker.loading import parse_url, redact
from anybroker_conformance import preflight
from anybroker_conformance.laws import Declaration, declared
from anybroker_conformance.selection import LAWS, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

LONGEST = 30.0
"""Seconds within which an adapter must have connected and answered its first calls."""
SLOWEST = 60.0
"""Seconds within which an adapter must have answered one call of each verb."""


class Examination(msgspec.Struct, frozen=True):
    """What is known of the adapter of one suite."""

    kind: Kind
    adapter: str
    url: str | None = None
    """Without passwords."""
    server: str | None = None
    problem: str | None = None
    """Why it cannot be tested, in one line."""
    unreachable: bool = False
    """The problem is that nobody answers."""
    declarations: dict[int, Declaration] = {}
    """What it declares about each law, by number."""
    min_lease: float = 0.0


def examine(suite: type, kind: Kind) -> Examination:
    """Connect, look at what is there, and do what every test relies on.

    Raises nothing, and returns in time when the suite has told its URL.
    """
    unknown = Examination(kind, suite.__name__)
    try:
        url = suite().url  # for which a server may have to be started: that takes the time it takes
    except Exception as error:
        return msgspec.structs.replace(unknown, problem=_raised(error))
    unknown = Examination(kind, _scheme(url) or suite.__name__, _shown(url))
    try:
        found = _within(LONGEST, lambda: _examined(suite, unknown))
    except TimeoutError as where:
        problem = f"it did not answer within {LONGEST:g} s: it is in {where}"
        return msgspec.structs.replace(unknown, problem=problem, unreachable=True)
    if found.problem is None:
        found = msgspec.structs.replace(found, problem=_fault_of_a_verb(suite, kind))
    return found


def _fault_of_a_verb(suite: type, kind: Kind) -> str | None:
    try:
        return _within(SLOWEST, lambda: _wrong_answer(suite(), kind))
    except TimeoutError as where:  # each of the tests would take as long as it may
        return f"each of its verbs was called once, and that has not ended within {SLOWEST:g} s: it is in {where}"


def _within(seconds: float, act: Callable[[], T]) -> T:
    """What ``act`` returns. Raises ``TimeoutError``, which says where it is, if it takes longer."""
    answers: list[T] = []
    thread = threading.Thread(target=lambda: answers.append(act()), name="preflight", daemon=True)
    thread.start()
    thread.join(seconds)
    if not answers:
        frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001  documented, in spite of its name
        stack = traceback.extract_stack(frame)[:-6:-1] if frame else []
        raise TimeoutError(" < ".join(f"{one.name} ({Path(one.filename).name}:{one.lineno})" for one in stack))
    return answers[0]


def _examined(suite: type, unknown: Examination) -> Examination:
    try:
        problem = preflight.problem(suite())
        if problem is not None:
            unreachable = "BrokerUnavailable" in problem or "does not answer" in problem
            return msgspec.structs.replace(unknown, problem=problem, unreachable=unreachable)
        return _declared(suite(), unknown)
    except Exception as error:  # whatever a stranger's adapter raises, it is one line
        return msgspec.structs.replace(unknown, problem=_raised(error))


def _raised(error: Exception) -> str:
    return "it raised " + redact(" ".join(f"{type(error).__name__}: {error}".split()))


def _declared(suite: Any, unknown: Examination) -> Examination:
    adapter = suite.connect()
    try:
        capabilities = adapter.capabilities
        return msgspec.structs.replace(
            unknown,
            adapter=_scheme(suite.url) or _registered(type(adapter), unknown.kind) or type(adapter).__name__,
            server=_named(suite.server) or _started_by_us(suite.url),
            declarations={law.number: declared(law, capabilities) for law in LAWS[unknown.kind]},
            min_lease=getattr(capabilities, "min_lease", 0.0),
        )
    finally:
        adapter.close()


def _wrong_answer(suite: Any, kind: Kind) -> str | None:
    """Which method returns what its protocol does not allow. Whether what it does is right, the laws say."""
    adapter: Any = None
    try:
        adapter = suite.connect()
        (_use_broker if kind == "broker" else _use_backend)(adapter)
    except Exception as error:  # all but a wrong type is for the laws to judge: they say it better
        return f"{type(adapter).__name__}.{redact(' '.join(str(error).split()))}" if _is_wrong_type(error) else None
    finally:
        with suppress(Exception):
            adapter.close()
    return None


def _is_wrong_type(error: Exception) -> bool:
    return type(error).__name__ == "WrongAnswer" and type(error).__module__.startswith(__package__ or "")


def _use_broker(adapter: Any) -> None:
    from anybroker.broker import Message
    from anybroker_conformance.history.recorder import Journal, RecordedBroker

    broker = RecordedBroker(adapter, Journal(), "preflight")
    queue = f"preflight{secrets.token_hex(4)}"
    lease = max(5.0, broker.capabilities.min_lease)
    broker.enqueue([Message(queue, queue, b"1")])
    held = broker.acquire([queue], limit=1, wait=1.0, lease=lease)
    broker.extend(held, lease=lease)
    broker.update([(one, one.message) for one in held])
    broker.ack(broker.acquire([queue], limit=1, wait=1.0, lease=lease))
    broker.close()


def _use_backend(adapter: Any) -> None:
    from anybroker.backend import Result, State
    from anybroker_conformance.backend.recorder import BackendJournal, RecordedBackend

    backend = RecordedBackend(adapter, BackendJournal(), "preflight")
    name = f"preflight{secrets.token_hex(4)}"
    backend.store([Result(name, State.SUCCEEDED, 1, b"1")], ttl=60)
    backend.fetch([name])
    backend.wait([name], timeout=0)
    backend.forget([name])
    backend.join(name, "1", size=1)
    backend.seal(name)
    token = backend.claim(name, ttl=60)
    if token is not None:
        backend.release(name, token)
    backend.close()


def _scheme(url: object) -> str | None:
    return url.partition(":")[0].lower() if isinstance(url, str) and ":" in url else None


def _shown(url: object) -> str | None:
    return redact(url) if isinstance(url, str) else None


def _registered(adapter: type, kind: Kind) -> str | None:
    """The scheme under which a class is registered."""
    for point in sorted(entry_points(group=f"anybroker.{kind}s"), key=lambda one: one.name):
        if point.module in sys.modules and point.load() is adapter:  # another one need not be imported
            return point.name
    return None


def _named(server: object) -> str | None:
    """What a server that the suite may restart says of itself."""
    said = [getattr(server, "name", None), getattr(server, "version", None)]
    return " ".join(str(one) for one in said if one) or None


def _started_by_us(url: str | None) -> str | None:
    """The version of a server that the services command started, whose URL this is."""
    if url is None:
        return None
    with suppress(Exception):  # a server that is not ours is none that we know the version of
        from anybroker_conformance.services import running

        hosts = set(parse_url(url).hosts)
        for name, service in running().items():
            if url == service.url or (hosts and hosts <= set(parse_url(service.url).hosts)):
                return f"{name} {service.version}"
    return None
