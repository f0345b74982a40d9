"""What is done with a result backend is written down, and told as the timeline of one result, group or lock."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from anybroker.backend import Result, State
from anybroker.clock import ManualClock
from anybroker.memory import MemoryBackend
from anybroker_conformance.backend.recorder import BackendJournal, RecordedBackend, WrongAnswer

if TYPE_CHECKING:
    from collections.abc import Sequence

DONE = Result("a", State.SUCCEEDED, 1, b"body")


def recorded(backend: Any = None, clock: ManualClock | None = None) -> tuple[RecordedBackend, BackendJournal]:
    journal = BackendJournal()
    time = {"now": clock.time} if clock else {}
    return RecordedBackend(backend or MemoryBackend(), journal, "backend 1", **time), journal


def test_recorder__a_timeline_is_of_one_result() -> None:
    clock = ManualClock()
    backend, journal = recorded(MemoryBackend(clock=clock), clock)
    backend.store([Result("b", State.RUNNING, 1), DONE], ttl=60)
    clock.advance(61)
    backend.fetch(["b", "a"])
    backend.claim("lock", ttl=5)
    first, second = journal.timeline("a")
    assert first.split() == [
        "+0.000",
        "s",
        "backend",
        "1",
        "store",
        "succeeded,",
        "attempt",
        "1,",
        "b'body',",
        "for",
        "60",
        "s",
        "->",
        "True",
    ]
    assert second.split() == ["+61.000", "s", "backend", "1", "fetch", "->", "None"]
    assert journal.timeline("unknown") == []


def test_recorder__groups_and_locks_have_timelines() -> None:
    backend, journal = recorded()
    backend.join("g", "m", size=2)
    backend.seal("g")
    token = backend.claim("k", ttl=5)
    backend.release("k", token or "")
    assert [line.partition("backend 1")[2].strip() for line in journal.timeline("g")] == [
        "join member 'm', size 2 -> False",
        "seal  -> None",
    ]
    assert len(journal.timeline("k")) == 2


def test_recorder__a_call_that_has_not_returned_is_told() -> None:
    backend, journal = recorded()
    waiting = threading.Thread(target=backend.wait, args=(["a"],), kwargs={"timeout": 60})
    waiting.start()
    while not journal.calls():
        pass
    assert "(has not returned)" in journal.timeline("a")[0]
    assert journal.calls()[0].ended is None
    backend.store([DONE], ttl=60)
    waiting.join(10)
    assert journal.calls()[0].ended is not None


def test_recorder__a_call_that_raised_is_told() -> None:
    backend, journal = recorded()
    backend.close()
    with pytest.raises(ConnectionError):
        backend.fetch(["a"])
    assert "raised BrokerUnavailable" in journal.timeline("a")[0]


def test_recorder__a_long_timeline_shows_its_end() -> None:
    backend, journal = recorded()
    for _ in range(100):
        backend.fetch(["a"])
    lines = journal.timeline("a")
    assert lines[0] == "(60 calls before)"
    assert len(lines) == 41


class Wrong(MemoryBackend):
    answer: Any = None

    def store(self, results: Sequence[Result], *, ttl: float | None) -> Any:  # noqa: ARG002
        return self.answer

    def fetch(self, ids: Sequence[str]) -> Any:  # noqa: ARG002
        return self.answer

    def wait(self, ids: Sequence[str], *, timeout: float) -> Any:  # noqa: ARG002
        return self.answer

    def join(self, group_id: str, member_id: str, *, size: int) -> Any:  # noqa: ARG002
        return self.answer

    def claim(self, key: str, *, ttl: float) -> Any:  # noqa: ARG002
        return self.answer

    def release(self, key: str, token: str) -> Any:  # noqa: ARG002
        return self.answer


@pytest.mark.parametrize("answer", [None, 1, [], [1], [True, True], (True,), "x"])
def test_recorder__store_answers_with_bools(answer: object) -> None:
    wrong = Wrong()
    wrong.answer = answer
    with pytest.raises(WrongAnswer, match="store returned"):
        recorded(wrong)[0].store([DONE], ttl=60)


@pytest.mark.parametrize("answer", [[], [b"x"], None, DONE, [None, None]])
def test_recorder__fetch_answers_each_id(answer: object) -> None:
    wrong = Wrong()
    wrong.answer = answer
    with pytest.raises(WrongAnswer, match="fetch returned"):
        recorded(wrong)[0].fetch(["a"])


@pytest.mark.parametrize("answer", [None, [None], DONE])
def test_recorder__wait_answers_results(answer: object) -> None:
    wrong = Wrong()
    wrong.answer = answer
    with pytest.raises(WrongAnswer, match="wait returned"):
        recorded(wrong)[0].wait(["a"], timeout=0)


@pytest.mark.parametrize("answer", [None, 1, "x"])
def test_recorder__join_and_release_answer_a_bool(answer: object) -> None:
    wrong = Wrong()
    wrong.answer = answer
    backend, _ = recorded(wrong)
    with pytest.raises(WrongAnswer, match="join returned"):
        backend.join("g", "m", size=1)
    with pytest.raises(WrongAnswer, match="release returned"):
        backend.release("k", "token")


@pytest.mark.parametrize("answer", ["", True, 1, b"token"])
def test_recorder__claim_answers_a_token(answer: object) -> None:
    wrong = Wrong()
    wrong.answer = answer
    with pytest.raises(WrongAnswer, match="claim returned"):
        recorded(wrong)[0].claim("k", ttl=1)
