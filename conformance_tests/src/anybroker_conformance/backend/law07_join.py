"""Law 7: a group is complete when all its members have finished, exactly, however often they say so."""

from __future__ import annotations

import os
import random
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from anybroker_conformance.backend.models import GroupsModel, check_model
from anybroker_conformance.backend.peer import RemoteBackend
from anybroker_conformance.backend.racing import one_within_another, race, race_for_each
from anybroker_conformance.subject import LawBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from anybroker_conformance.backend.recorder import RecordedBackend
    from anybroker_conformance.backend.subject import BackendSubject

THREADS = 8
KILLED = 3
"""Processes that are killed."""
GROUPS = 250
LINES = 250
"""Lines of an adapter at which a call is overtaken, at most."""


class Joined(msgspec.Struct, frozen=True):
    """What one join answered, and when."""

    answer: bool
    began: float
    ended: float


class Join:
    """Law 7."""

    def test_law07_join__true_when_all_have_finished(self, results: BackendSubject) -> None:
        """Not one member earlier and not one later, in groups of every size, in any order, by any object."""
        objects = results.objects(3)
        chance = random.Random(7)  # noqa: S311 (any order will do)
        for size in (1, 2, 3, 7, 10, 11, 64, 65, 100, 129, 257):
            group = results.id("group")
            members = [f"m{n}" for n in range(size)]
            chance.shuffle(members)
            for number, member in enumerate(members, 1):
                _expect(
                    group,
                    member,
                    size,
                    objects[number % 3],
                    complete=number == size,
                    why=f"{number} of {size} have finished",
                )

    def test_law07_join__a_large_group(self, results: BackendSubject) -> None:
        """A thousand members, each of whom says it twice, several at a time."""
        size, group = 1001, results.id("group")
        objects = results.objects(2)
        _warm(results, objects)
        started = time.monotonic()

        def finish(first: int) -> bool:
            early = False
            for number in range(first, size - 1, THREADS):
                if time.monotonic() - started > 10:
                    break
                for _ in range(2):
                    early |= objects[first % 2].join(group, f"member {number}", size=size)
            return early

        if any(race([partial(finish, first) for first in range(THREADS)])):
            raise LawBroken(f"join answered True before the last of {size} members had finished", group)
        missing = size - 1 if time.monotonic() - started > 10 else 0
        for number in range(missing):
            results.backend.join(group, f"member {number}", size=size)
            if time.monotonic() - started > 40:
                return  # such a service has no use for groups of this size
        _expect(
            group, f"member {size - 1}", size, results.backend, complete=True, repeated=True, why="it was the last one"
        )
        _expect(group, "member 0", size, results.backend, complete=True, repeated=True, why="all have finished")

    def test_law07_join__a_member_counts_once(self, results: BackendSubject) -> None:
        """However often, by whichever object, and whoever was between."""
        objects = results.objects(3)
        for pattern in ("aabba", "aaaaaaaaab", "ababababab", "abbaabba"):
            group = results.id("group")
            for number, member in enumerate(pattern):
                _expect(
                    group, member, 3, objects[number % 3], complete=False, repeated=True, why="one has not finished yet"
                )
            _expect(group, "c", 3, results.backend, complete=True, repeated=True, why="all have finished")
        group = results.id("group")
        for _ in range(100):
            _expect(
                group,
                "same",
                2,
                results.backend,
                complete=False,
                repeated=True,
                why="it is the only one, again and again",
            )
        results.advance(3600 if results.clock else 0)
        _expect(
            group, "same", 2, results.backend, complete=False, repeated=True, why="it is the only one, an hour later"
        )
        _expect(group, "other", 2, results.backend, complete=True, repeated=True, why="the other one has finished")

    def test_law07_join__true_again_until_sealed(self, results: BackendSubject) -> None:
        """Whoever repeats itself hears it again, and an additional member too; after ``seal`` nobody does."""
        objects = results.objects(3)
        for size in (1, 2, 5, 70):
            group = results.id("group")
            members = [f"{n}" for n in range(size)]
            for number, member in enumerate(members, 1):
                _expect(
                    group,
                    member,
                    size,
                    objects[number % 3],
                    complete=number == size,
                    why=f"{number} of {size} finished",
                )
            for turn in range(3):
                for number, member in enumerate([*members[:5], members[-1]]):
                    _expect(
                        group,
                        member,
                        size,
                        objects[number % 3],
                        complete=True,
                        repeated=True,
                        why="all have finished, none has sealed",
                    )
                results.advance(600 if results.clock else 0)
                if turn == 1:
                    _expect(
                        group,
                        "surplus",
                        size,
                        results.backend,
                        complete=True,
                        repeated=True,
                        why="more than all have finished",
                    )
            objects[1].seal(group)
            for turn in range(3):
                for number, member in enumerate([*members[:5], members[-1], "surplus", f"new {turn}"]):
                    _expect(
                        group,
                        member,
                        size,
                        objects[number % 3],
                        complete=False,
                        repeated=True,
                        why="the group is sealed",
                    )
                results.advance(3600 if results.clock else 0)
                objects[turn % 3].seal(group)

    def test_law07_join__sealed_early(self, results: BackendSubject) -> None:
        """An unknown group, or one of which some have not finished, is sealed for good too."""
        for before in (0, 1, 2):
            group = results.id("group")
            for number in range(before):
                results.backend.join(group, f"{number}", size=3)
            results.objects(2)[1].seal(group)
            for number in range(5):
                _expect(group, f"{number}", 3, results.backend, complete=False, why="the group is sealed")
            _expect(group, "0", 1, results.backend, complete=False, why="the group is sealed")
        quiet = [results.id("group") for _ in range(3)]
        for number, group in enumerate(quiet):
            for member in range(number):
                results.backend.join(group, f"{member}", size=2)
            results.backend.seal(group)
        results.advance(3600 if results.clock else 0)
        for group in quiet:
            _expect(group, "0", 1, results.backend, complete=False, why="the group was sealed, an hour ago")

    def test_law07_join__groups_at_the_same_time(self, results: BackendSubject) -> None:
        """Groups of different sizes whose members come in turn, with equal names, count each its own."""
        sizes = {results.id("group"): size for size in (1, 2, 3, 4, 5, 6, 3, 2)}
        sealed = set()
        for number in range(1, 8):
            for turn, (group, size) in enumerate(sizes.items()):
                complete = number >= size and group not in sealed
                _expect(
                    group, f"{number}", size, results.backend, complete=complete, why=f"{number} of {size} finished"
                )
                if complete and turn % 2:
                    results.backend.seal(group)
                    sealed.add(group)

    def test_law07_join__names_of_members(self, results: BackendSubject) -> None:
        """Members are told apart however alike their names are."""
        names = [
            "a",
            "A",
            "a ",
            " a",
            "aa",
            "á",
            "a\u0301",
            "🦊",
            "🦊🦊",
            "1",
            "01",
            "1.0",
            "a:b",
            "a,b",
            "a/b",
            "a\0b",
            "a\0",
            "%",
        ]
        names += [
            "_",
            "*",
            *("x" * length + end for length in (80, 250, 256) for end in "12"),
            "é",
            "e\u0301",
            "\\",
            "'",
            '"',
            "null",
            "None",
            "sealed",
        ]
        group = results.id("group")
        for number, name in enumerate(names, 1):
            _expect(
                group, name, len(names), results.backend, complete=number == len(names), why=f"{number} of {len(names)}"
            )

    def test_law07_join__the_last_ones_race(self, realtime_results: BackendSubject) -> None:
        """At least one of them sees that all have finished, none sees it before, and all do when they ask again."""
        _race(realtime_results, realtime_results.objects(4))

    def test_law07_join__the_last_ones_race_by_one_object(self, realtime_results: BackendSubject) -> None:
        _race(realtime_results, [realtime_results.backend] * 2)

    def test_law07_join__nobody_is_early(self, realtime_results: BackendSubject) -> None:
        """All but one, each of them again and again at the same time, are not all."""
        results = realtime_results
        objects = results.objects(4)
        groups = [results.id("group") for _ in range(8)]

        def finish(number: int) -> list[str]:
            return [
                group
                for _ in range(6)
                for group in groups
                if objects[number % 4].join(group, f"member {number}", size=THREADS + 1)
            ]

        for early in race([partial(finish, number) for number in range(THREADS)]):
            if early:
                self._broken(results, "join answered True although the last member had not finished", early[0])
        for group in groups:
            if not results.backend.join(group, "the last", size=THREADS + 1):
                self._broken(results, "join did not answer True to the last member, after a race of the others", group)

    def test_law07_join__one_member_races_itself(self, realtime_results: BackendSubject) -> None:
        """The same member, recorded by many at the same time, counts once."""
        results = realtime_results
        objects = results.objects(4)
        raced = race_for_each(
            [partial(_finish, objects[number % 4], "same", 2) for number in range(4)],
            [results.id("group") for _ in range(GROUPS)],
        )
        for group, answers in raced.items():
            if any(answers) or results.backend.join(group, "same", size=2):
                self._broken(results, "join answered True to one member of two that was recorded several times", group)
            if not results.backend.join(group, "other", size=2):
                self._broken(
                    results, "join did not answer True to the last member, after the other one raced itself", group
                )

    def test_law07_join__seal_races_join(self, realtime_results: BackendSubject) -> None:
        """Whatever comes first, a group that is sealed stays sealed."""
        results = realtime_results
        objects = results.objects(3)

        def seal(group: str) -> bool:
            objects[2].seal(group)
            return True

        racers: list[Callable[[str], bool]] = [
            partial(_finish, objects[0], "0", 2),
            partial(_finish, objects[1], "1", 2),
            seal,
        ]
        for group in race_for_each(racers, [results.id("group") for _ in range(GROUPS)]):
            for member in ("0", "1", "new"):
                if results.backend.join(group, member, size=2):
                    self._broken(
                        results, "join answered True in a group that is sealed, after join and seal raced", group
                    )

    def test_law07_join__one_call_within_another(self, realtime_results: BackendSubject) -> None:
        """A member is overtaken by another one, by itself or by ``seal``, at whichever line of an adapter's code."""
        results = realtime_results
        first, second = results.objects(2)
        last = partial(_finish, second, "b", 2)
        for group, *answers in one_within_another(partial(_finish, first, "a", 2), last, self._groups(results)):
            if not any(answers) or not first.join(group, "a", size=2):
                self._broken(results, "both members of a group have joined, and neither saw it", group)
        same = partial(_finish, second, "a", 2)
        for group, *answers in one_within_another(partial(_finish, first, "a", 2), same, self._groups(results)):
            if any(answers) or first.join(group, "a", size=2) or not first.join(group, "b", size=2):
                self._broken(results, "a member that was recorded twice at the same time does not count once", group)
        for group, *_ in one_within_another(partial(_finish, first, "a", 1), second.seal, self._groups(results)):
            if first.join(group, "a", size=1) or first.join(group, "b", size=1):
                self._broken(results, "join answered True in a group that was sealed during a join", group)
        for group, *_ in one_within_another(first.seal, partial(_finish, second, "a", 1), self._groups(results)):
            if first.join(group, "a", size=1) or first.join(group, "b", size=1):
                self._broken(results, "join answered True in a group that was sealed, during which one joined", group)

    def _groups(self, results: BackendSubject) -> list[str]:
        return [results.id("group") for _ in range(LINES)]

    def test_law07_join__processes_race(self, realtime_results: BackendSubject) -> None:
        results = realtime_results
        others = [results.peer() for _ in range(2)]
        groups = [results.id("group") for _ in range(40)]
        function = "anybroker_conformance.backend.law07_join:join_each"
        for number, other in enumerate(others):
            other.ask("run", function=function, arguments={"groups": groups, "member": f"{number}", "size": 3})
        here = join_each(results.backend, groups, "here", 3)
        answers = [here, *(other.answer() for other in others)]
        for place, group in enumerate(groups):
            if not any(one[place] for one in answers):
                self._broken(results, "all members have joined, from three processes, and none saw it", group)
        for other in others:
            remote = results.adopt(RemoteBackend(other, results.capabilities))
            _expect(groups[0], "here", 3, remote, complete=True, why="all have finished, in three processes")

    def test_law07_join__killed_in_the_middle(self, realtime_results: BackendSubject, tmp_path: Path) -> None:
        """Processes are killed while they join: a member that was being recorded can be recorded again, and counts."""
        results = realtime_results
        peers = [results.peer() for _ in range(KILLED)]
        progress = [tmp_path / f"{number}" for number in range(KILLED)]
        for peer, file in zip(peers, progress, strict=True):
            arguments = {"prefix": results.id("group"), "progress": str(file)}
            peer.ask("run", function=f"{__name__}:keep_joining", arguments=arguments)
        for number, (peer, file) in enumerate(zip(peers, progress, strict=True)):
            _await_first(file)
            time.sleep(0.05 + 0.0137 * number)
            peer.kill()
        for file in progress:
            for group in file.read_text().split()[-2 * THREADS :]:
                why = "its only member was killed while it joined, and has joined again"
                _expect(group, "a", 2, results.backend, complete=False, repeated=True, why=why)
                why = "both have joined, one of them again after it was killed while it joined"
                _expect(group, "b", 2, results.backend, complete=True, repeated=True, why=why)

    def test_law07_join__any_order_of_calls(self, results: BackendSubject) -> None:
        """Random calls, whose every answer is that of a model."""
        check_model(GroupsModel, results)

    def _broken(self, results: BackendSubject, text: str, group: str) -> None:
        """What is exact is broken; where ``exact_join`` is not declared, races may go wrong."""
        if results.capabilities.exact_join:
            raise LawBroken(text, group)


def join_each(backend: RecordedBackend, groups: Sequence[str], member: str, size: int) -> list[bool]:
    """Join one group after another; also called in other processes."""
    return [backend.join(group, member, size=size) for group in groups]


def keep_joining(backend: RecordedBackend, prefix: str, progress: str) -> None:
    """Join one new group after another, in several threads, until the process is killed; says which, and then joins."""
    log = os.open(progress, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def join(thread: int) -> None:
        number = 0
        while True:
            group = f"{prefix}-{thread}-{number}"
            os.write(log, f"{group}\n".encode())
            backend.join(group, "a", size=2)
            number += 1

    for thread in range(THREADS):
        threading.Thread(target=join, args=(thread,)).start()
    threading.Event().wait()


def _await_first(progress: Path) -> None:
    deadline = time.monotonic() + 30
    while not (progress.exists() and progress.stat().st_size):
        assert time.monotonic() < deadline, "the other process has not begun to join within 30 seconds"
        time.sleep(0.01)


def _finish(backend: RecordedBackend, member: str, size: int, group: str) -> bool:
    return backend.join(group, member, size=size)


def _race(results: BackendSubject, objects: Sequence[RecordedBackend]) -> None:
    size = len(objects)
    racers = [partial(_join, backend, f"member {number}", size) for number, backend in enumerate(objects)]
    raced = race_for_each(racers, [results.id("group") for _ in range(GROUPS)])
    if not results.capabilities.exact_join:
        return
    for group, joined in raced.items():
        if not any(one.answer for one in joined):
            raise LawBroken(f"all {size} members have joined, and none saw that all have finished", group)
        last = max(one.began for one in joined)
        if any(one.answer and one.ended < last for one in joined):
            raise LawBroken("join answered True before the last member had begun to join", group)
        for number in range(size):
            _expect(group, f"member {number}", size, objects[number], complete=True, why="all have finished")


def _join(backend: RecordedBackend, member: str, size: int, group: str) -> Joined:
    began = time.monotonic()
    answer = backend.join(group, member, size=size)
    return Joined(answer, began, time.monotonic())


def _warm(results: BackendSubject, objects: Sequence[RecordedBackend]) -> None:
    for one in objects:
        one.fetch([results.id()])


def _expect(
    group: str,
    member: str,
    size: int,
    backend: RecordedBackend,
    *,
    complete: bool,
    why: str,
    repeated: bool = False,
) -> None:
    """Join, and look at the answer, which may be wrong once a member repeats itself and join is not exact."""
    answer = backend.join(group, member, size=size)
    if answer != complete and (backend.capabilities.exact_join or not repeated):
        raise LawBroken(f"join of member {member!r} answered {not complete} although {why}", group)
