"""Law 3: a result is never overwritten by one of an earlier attempt, nor a final one by its own."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import pytest

from anybroker.backend import Result, State
from anybroker_conformance.backend.models import ResultsModel, check_model
from anybroker_conformance.backend.racing import one_within_another, race_for_each
from anybroker_conformance.backend.subject import KEPT, shown
from anybroker_conformance.subject import LawBroken

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker_conformance.backend.recorder import RecordedBackend
    from anybroker_conformance.backend.subject import BackendSubject

ATTEMPTS = [
    (1, 1), (1, 2), (2, 1), (1, 3), (3, 1), (2, 2), (5, 5),
    (9, 10), (10, 9), (99, 100), (100, 99), (127, 128), (128, 127), (255, 256), (256, 255), (256, 256),
    (65_535, 65_536), (65_536, 65_535), (1, 2**31 - 1), (2**31 - 1, 1), (2**31 - 1, 2**31 - 1),
]  # fmt: skip
"""Of the result that is there, and of the one that comes. Numbers that are sorted wrongly as text are among them."""
ROUNDS = 400
LINES = 250
"""Lines of an adapter at which a call is overtaken, at most."""
SECONDS = 0.5
"""What that may take for each case."""
FINAL = [state for state in State if state.final]
UNFINISHED = [state for state in State if not state.final]


class OneWriter:
    """Law 3."""

    def test_law03_one_writer__every_state_after_every_other(self, results: BackendSubject) -> None:
        """Every pair of states and many pairs of attempts: who wins, what is answered, and what is there then."""
        cases = [
            (Result(results.id(), old, before, b"old"), new, after)
            for (before, after), old, new in product(ATTEMPTS, State, State)
        ]
        results.put(*(old for old, _, _ in cases))
        _assert_winners(results, [(old, Result(old.id, new, after, b"new one")) for old, new, after in cases])

    def test_law03_one_writer__one_by_one_and_by_others(self, results: BackendSubject) -> None:
        """The same where each is stored by a call of its own, and by another object."""
        objects = results.objects(2)
        pairs = product([(1, 1), (1, 2), (2, 1)], (State.RUNNING, State.SUCCEEDED, State.FAILED), State)
        for turn, ((before, after), state, new) in enumerate(pairs):
            old = results.result(b"old", state=state, attempt=before)
            results.put(old)
            _assert_winners(results, [(old, Result(old.id, new, after, b"new"))], objects[turn % 2])

    def test_law03_one_writer__what_is_refused_changes_nothing(self, results: BackendSubject) -> None:
        """However often, in whichever form: the zombie's result, the same result again, another end of the attempt."""
        kept = results.result(b"kept", state=State.FAILED, attempt=3)
        unfinished = results.result(b"kept", state=State.RETRYING, attempt=3)
        results.put(kept, unfinished)
        for attempt, state in [*product((1, 2), State), *((3, state) for state in State)]:
            for body in (b"zombie", b"", b"kept"):
                if results.backend.store([Result(kept.id, state, attempt, body)], ttl=KEPT) != [False]:
                    raise LawBroken(f"{state.value} of attempt {attempt} replaced failed of attempt 3", kept.id)
                if attempt < 3 and results.backend.store([Result(unfinished.id, state, attempt, body)], ttl=None) != [
                    False
                ]:
                    raise LawBroken(f"{state.value} of attempt {attempt} replaced retrying of attempt 3", unfinished.id)
            results.assert_there([kept, unfinished], why="what would replace it was refused")
        later = [Result(one.id, State.RUNNING, 4, b"later") for one in (kept, unfinished)]
        results.put(*later)
        results.assert_there(later, why="a later attempt replaces an earlier one, however often others were refused")

    def test_law03_one_writer__each_of_a_batch_has_its_own_answer(self, results: BackendSubject) -> None:
        """In order; also where several are about one id, and in a large batch."""
        there = results.result(b"there")
        results.put(there)
        new = results.id()
        batch = [
            (Result(there.id, State.RUNNING, 1), False),
            (Result(new, State.RUNNING, 1), True),
            (Result(new, State.SUCCEEDED, 1, b"wins"), True),
            (Result(there.id, State.FAILED, 1, b"again"), False),
            (Result(new, State.FAILED, 1), False),
            (results.result(b"another"), True),
            (Result(there.id, State.RUNNING, 2, b"later"), True),
            (Result(there.id, State.SUCCEEDED, 1, b"zombie"), False),
        ]
        answers = results.backend.store([one for one, _ in batch], ttl=KEPT)
        for (result, wins), answer in zip(batch, answers, strict=True):
            if answer != wins:
                raise LawBroken(f"store answered {answer} for {shown(result)} in a batch", result.id)
        results.assert_there(
            [batch[2][0], batch[5][0], batch[6][0]], why="it was the last of its batch that may be stored"
        )
        many = [results.result(state=State.RUNNING if n % 3 else State.SUCCEEDED) for n in range(300)]
        results.put(*many)
        _assert_winners(results, [(old, Result(old.id, State.FAILED, 1, b"%d" % n)) for n, old in enumerate(many)])

    def test_law03_one_writer__a_life_of_many_attempts(self, results: BackendSubject) -> None:
        """Each attempt runs, is tried again, and is followed by the zombie of the one before."""
        ids = [results.id() for _ in range(20)]
        for attempt in range(1, 25):
            for state in (State.RUNNING, State.RETRYING, State.FAILED):
                current = [Result(id_, state, attempt, b"%d" % attempt) for id_ in ids]
                results.put(*current)
                zombies = [Result(id_, State.SUCCEEDED, attempt - 1, b"zombie") for id_ in ids if attempt > 1]
                for zombie, answer in zip(zombies, results.backend.store(zombies, ttl=KEPT), strict=True):
                    if answer:
                        raise LawBroken(f"attempt {attempt - 1} has replaced attempt {attempt}", zombie.id)
                results.assert_there(current, why="only a zombie came after it")

    @pytest.mark.parametrize("final", [State.SUCCEEDED, State.FAILED])
    def test_law03_one_writer__a_final_result_races_one_that_is_not(
        self, realtime_results: BackendSubject, final: State
    ) -> None:
        """Whoever comes first, the final one is there in the end."""
        ids = [realtime_results.id() for _ in range(ROUNDS)]
        objects = realtime_results.objects(3)
        realtime_results.put(*(Result(id_, State.RUNNING, 1, b"before") for id_ in ids[::2]))

        def store(backend: RecordedBackend, state: State) -> Callable[[str], bool]:
            return lambda id_: backend.store([Result(id_, state, 1, b"racing")], ttl=KEPT)[0]

        states = (final, State.RUNNING, State.RETRYING)
        raced = race_for_each([store(backend, state) for backend, state in zip(objects, states, strict=True)], ids)
        for id_, answers in raced.items():
            if not answers[0]:
                raise LawBroken("a final result was refused although there was only one that is not", id_)
        realtime_results.assert_there(
            [Result(id_, final, 1, b"racing") for id_ in raced], why="it is final, and raced others of its attempt"
        )

    def test_law03_one_writer__attempts_race(self, realtime_results: BackendSubject) -> None:
        """The latest attempt is there in the end, and was accepted."""
        objects = realtime_results.objects(4)

        def store(attempt: int) -> Callable[[str], bool]:
            backend = objects[attempt % 4]
            return lambda id_: backend.store([Result(id_, State.SUCCEEDED, attempt, b"%d" % attempt)], ttl=KEPT)[0]

        ids = [realtime_results.id() for _ in range(ROUNDS)]
        raced = race_for_each([store(attempt) for attempt in range(1, 6)], ids)
        for id_, answers in raced.items():
            if not answers[-1]:
                raise LawBroken("the latest attempt was refused in a race of attempts", id_)
        realtime_results.assert_there(
            [Result(id_, State.SUCCEEDED, 5, b"5") for id_ in raced], why="it is the latest attempt of all that raced"
        )

    def test_law03_one_writer__ends_of_one_attempt_race(self, realtime_results: BackendSubject) -> None:
        """One of them is accepted, and it is the one that is there."""
        objects = realtime_results.objects(4)

        def store(number: int) -> Callable[[str], bool]:
            return lambda id_: objects[number % 4].store([_end(id_, number)], ttl=KEPT)[0]

        raced = race_for_each([store(number) for number in range(5)], [realtime_results.id() for _ in range(ROUNDS)])
        expected: dict[str, Result | None] = {}
        for id_, answers in raced.items():
            winners = [number for number, one in enumerate(answers) if one]
            if len(winners) != 1:
                raise LawBroken(f"{len(winners)} of {len(answers)} final results of one attempt were accepted", id_)
            expected[id_] = _end(id_, winners[0])
        realtime_results.assert_fetched(expected, why="it is the one that was accepted")

    def test_law03_one_writer__one_store_within_another(self, realtime_results: BackendSubject) -> None:
        """A writer is overtaken by another one, at whichever line of its code."""
        objects = realtime_results.objects(2)
        pairs = [
            (Result("", State.RUNNING, 1, b"late"), Result("", State.SUCCEEDED, 1, b"wins")),
            (Result("", State.SUCCEEDED, 1, b"late"), Result("", State.RUNNING, 2, b"wins")),
            (Result("", State.SUCCEEDED, 2, b"wins"), Result("", State.FAILED, 1, b"early")),
        ]
        for overtaken, overtaking in pairs:
            winner = max(overtaken, overtaking, key=lambda one: (one.attempt, one.state.final))
            for before in (None, State.RETRYING):
                ids = [realtime_results.id() for _ in range(LINES)]
                if before:
                    realtime_results.put(*(Result(id_, before, 1) for id_ in ids))
                late, early = (partial(_store_as, *pair) for pair in zip(objects, (overtaken, overtaking), strict=True))
                for id_, *answers in one_within_another(late, early, ids, seconds=SECONDS):
                    expected = Result(id_, winner.state, winner.attempt, winner.body)
                    realtime_results.assert_there([expected], why="it is the later or final one of two that raced")
                    if not answers[(overtaken, overtaking).index(winner)]:
                        raise LawBroken("store answered False to the one of two writers that wins", id_)

    def test_law03_one_writer__any_order_of_calls(self, results: BackendSubject) -> None:
        """Random calls, whose every answer is that of a model."""
        check_model(ResultsModel, results)


def _store_as(backend: RecordedBackend, result: Result, id_: str) -> bool:
    return backend.store([Result(id_, result.state, result.attempt, result.body)], ttl=KEPT)[0]


def _end(id_: str, number: int) -> Result:
    return Result(id_, FINAL[number % len(FINAL)], 1, b"%d" % number)


def _assert_winners(
    results: BackendSubject, cases: list[tuple[Result, Result]], backend: RecordedBackend | None = None
) -> None:
    """Store the second of each pair; it wins, or not, and says so."""
    for start in range(0, len(cases), 200):
        some = cases[start : start + 200]
        answers = (backend or results.backend).store([new for _, new in some], ttl=KEPT)
        for (old, new), answer in zip(some, answers, strict=True):
            if answer != new.replaces(old):
                raise LawBroken(f"store answered {answer} for {shown(new)} where {shown(old)} was", new.id)
    left = {old.id: new if new.replaces(old) else old for old, new in cases}
    results.assert_fetched(dict(left), why="store said so")
