"""A backend that cannot be tested is told so in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from anybroker.errors import BrokerUnavailable
from anybroker.memory import MemoryBackend
from anybroker_conformance import BackendConformance
from anybroker_conformance.preflight import problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anybroker.backend import Result


def problem_of(backend: Any) -> str | None:
    class Suite(BackendConformance):
        def connect(self) -> Any:
            if isinstance(backend, Exception):
                raise backend
            return backend

    return problem(Suite())


def declaring(**fields: Any) -> MemoryBackend:
    backend = MemoryBackend()
    backend.capabilities = msgspec.structs.replace(backend.capabilities, **fields)
    return backend


class NoSeal(MemoryBackend):
    seal = None  # type: ignore[assignment]


class OtherSignature(MemoryBackend):
    def wait(self, ids: Sequence[str]) -> list[Result]:  # type: ignore[override]
        return super().wait(ids, timeout=0)


class Unreachable(MemoryBackend):
    def fetch(self, ids: Sequence[str]) -> list[Result | None]:  # noqa: ARG002
        raise BrokerUnavailable("nobody\nlistens")


class Raising(MemoryBackend):
    def fetch(self, ids: Sequence[str]) -> list[Result | None]:
        raise KeyError(ids[0])


class NeverNone(MemoryBackend):
    def fetch(self, ids: Sequence[str]) -> list[Result | None]:  # noqa: ARG002
        return []


def test_preflight__a_right_one_has_no_problem() -> None:
    assert problem_of(MemoryBackend()) is None


@pytest.mark.parametrize(
    ("backend", "words"),
    [
        pytest.param(RuntimeError("no\nserver"), "connect() raised RuntimeError: no server", id="raises"),
        pytest.param(object(), "object has no method store(); see anybroker.backend.ResultBackend", id="nothing"),
        pytest.param(OtherSignature(), "OtherSignature.wait() cannot be called: ", id="signature"),
        pytest.param(declaring(max_body=-1), "MemoryBackend.capabilities.max_body is -1", id="max body"),
        pytest.param(
            declaring(ttl_precision=float("inf")), "MemoryBackend.capabilities.ttl_precision is inf", id="ttl precision"
        ),
        pytest.param(
            declaring(wake_bound=float("nan")), "MemoryBackend.capabilities.wake_bound is nan", id="wake bound"
        ),
        pytest.param(Unreachable(), "the backend does not answer: nobody listens", id="unreachable"),
        pytest.param(
            Raising(), "a fetch of an unknown id raised KeyError, which is no AnybrokerError", id="other error"
        ),
        pytest.param(NeverNone(), "a fetch of an unknown id returned [], not [None]", id="wrong answer"),
        pytest.param(NoSeal(), "NoSeal has no method seal()", id="missing verb"),
    ],
)
def test_preflight__one_line(backend: Any, words: str) -> None:
    found = problem_of(backend)
    assert found is not None
    assert words in found
    assert "\n" not in found


def test_preflight__no_backend_at_all() -> None:
    class Suite(BackendConformance):
        pass

    assert problem(Suite()) == (
        "connect() raised ConfigurationError: Suite connects to nothing: set url, or define connect()"
    )
