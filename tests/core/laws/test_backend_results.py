"""Results: read your writes, one writer wins, nothing is resurrected, the ttl is kept, bodies are byte-exact."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest

from anybroker.backend import Result, State
from anybroker.errors import MessageTooLarge

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker.backend import ResultBackend
    from tests.core.laws.conftest import Subject

DONE = Result("r", State.SUCCEEDED, 1, b"done")


def test_backend_results__read_your_writes(
    backend: ResultBackend, another_backend: Callable[[], ResultBackend]
) -> None:
    results = [Result(f"r{n}", state, n + 1, bytes([n])) for n, state in enumerate(State)]
    assert backend.store(results, ttl=60) == [True] * len(results)
    for reader in (backend, another_backend()):
        assert reader.fetch(["r3", "unknown", "r0", "r3"]) == [results[3], None, results[0], results[3]]


def test_backend_results__empty_sequences(backend: ResultBackend) -> None:
    assert backend.store([], ttl=None) == []
    assert backend.fetch([]) == []
    assert backend.wait([], timeout=0) == []
    backend.forget([])


@pytest.mark.parametrize(
    "body", [b"", b"\0", bytes(range(256)) * 5000, "nested 🦊".encode()], ids=["", "0", "large", "fox"]
)
@pytest.mark.parametrize("id_", ["x", "🦊" * 60, "'\"\\%_*[a]", "a\0b"])
def test_backend_results__byte_exact(backend: ResultBackend, id_: str, body: bytes) -> None:
    result = Result(id_, State.FAILED, 2**31 - 1, body)
    backend.store([result], ttl=None)
    assert backend.fetch([id_]) == [result]


def test_backend_results__the_largest_body_and_one_byte_more(subject: Subject) -> None:
    backend = subject.backend(max_body=100)
    largest = Result("r", State.SUCCEEDED, 1, b"x" * 100)
    with pytest.raises(MessageTooLarge):
        backend.store([largest, Result("s", State.SUCCEEDED, 1, b"x" * 101)], ttl=60)
    assert backend.fetch(["r", "s"]) == [None, None]
    assert backend.store([largest], ttl=60) == [True]


@pytest.mark.parametrize("attempts", [(1, 1), (1, 2), (2, 1)], ids=["same", "later", "earlier"])
def test_backend_results__one_writer_wins(backend: ResultBackend, attempts: tuple[int, int]) -> None:
    before, after = attempts
    pairs = list(product(State, State))
    stored = [Result(f"{old} {new}", old, before, b"old") for old, new in pairs]
    candidates = [Result(f"{old} {new}", new, after, b"new") for old, new in pairs]
    wins = [after > before or (after == before and not old.final) for old, _ in pairs]
    assert backend.store(stored, ttl=60) == [True] * len(pairs)
    assert backend.store(candidates, ttl=60) == wins
    expected = [new if won else old for old, new, won in zip(stored, candidates, wins, strict=True)]
    assert backend.fetch([one.id for one in stored]) == expected


def test_backend_results__each_of_a_batch_has_its_own_answer(backend: ResultBackend) -> None:
    backend.store([DONE], ttl=60)
    again = Result("r", State.RUNNING, 1)
    fresh = [Result("s", State.RUNNING, 1), Result("s", State.SUCCEEDED, 1), Result("s", State.FAILED, 1)]
    assert backend.store([again, *fresh], ttl=60) == [False, True, True, False]
    assert backend.fetch(["r", "s"]) == [DONE, fresh[1]]


def test_backend_results__a_ttl_ends(backend: ResultBackend, advance: Callable[[float], None], short: float) -> None:
    backend.store([DONE, Result("kept", State.SUCCEEDED, 1)], ttl=600)
    backend.store([Result("brief", State.SUCCEEDED, 1)], ttl=short)
    backend.store([Result("for ever", State.SUCCEEDED, 1)], ttl=None)
    advance(short * 1.2)
    assert [one and one.id for one in backend.fetch(["r", "kept", "brief", "for ever"])] == [
        "r",
        "kept",
        None,
        "for ever",
    ]
    assert backend.wait(["brief"], timeout=0) == []


def test_backend_results__for_ever(backend: ResultBackend, subject: Subject) -> None:
    backend.store([DONE], ttl=None)
    if subject.clock:
        subject.clock.advance(1000 * 86400)
    assert backend.fetch(["r"]) == [DONE]


def test_backend_results__the_last_writer_sets_the_ttl(
    backend: ResultBackend, advance: Callable[[float], None], short: float
) -> None:
    running = [Result("longer", State.RUNNING, 1), Result("shorter", State.RUNNING, 1)]
    backend.store(running[:1], ttl=short)
    backend.store(running[1:], ttl=600)
    final = [Result("longer", State.SUCCEEDED, 1), Result("shorter", State.SUCCEEDED, 1)]
    backend.store(final[:1], ttl=600)
    backend.store(final[1:], ttl=short)
    advance(short * 1.2)
    assert backend.fetch(["longer", "shorter"]) == [final[0], None]


def test_backend_results__a_refused_write_does_not_prolong(
    backend: ResultBackend, advance: Callable[[float], None], short: float
) -> None:
    backend.store([DONE], ttl=short)
    assert backend.store([Result("r", State.RUNNING, 1)], ttl=600) == [False]
    advance(short * 1.2)
    assert backend.fetch(["r"]) == [None]


def test_backend_results__an_expired_result_is_no_rival(
    backend: ResultBackend, advance: Callable[[float], None], short: float
) -> None:
    backend.store([Result("r", State.SUCCEEDED, 9, b"expired")], ttl=short)
    advance(short * 1.2)
    fresh = Result("r", State.RUNNING, 1, b"fresh")
    assert backend.store([fresh], ttl=600) == [True]
    assert backend.fetch(["r"]) == [fresh]
    assert backend.wait(["r"], timeout=0) == []


def test_backend_results__a_forgotten_result_stays_forgotten(
    backend: ResultBackend,
    another_backend: Callable[[], ResultBackend],
    advance: Callable[[float], None],
    short: float,
) -> None:
    backend.store([DONE, Result("kept", State.SUCCEEDED, 1)], ttl=None)
    backend.forget(["r", "unknown", "r"])
    assert backend.fetch(["r"]) == [None]
    assert backend.wait(["r"], timeout=0) == []
    advance(short)
    assert another_backend().fetch(["r"]) == [None]
    assert backend.fetch(["kept"]) != [None]


def test_backend_results__a_forgotten_result_is_no_rival(backend: ResultBackend) -> None:
    backend.store([Result("r", State.SUCCEEDED, 9)], ttl=None)
    backend.forget(["r"])
    fresh = Result("r", State.RUNNING, 1)
    assert backend.store([fresh], ttl=600) == [True]
    assert backend.fetch(["r"]) == [fresh]
