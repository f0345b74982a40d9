"""Join: exact under duplicates and concurrency."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker.backend import ResultBackend

THREADS = 8


def test_backend_join__true_when_all_have_finished(backend: ResultBackend) -> None:
    assert [backend.join("g", member, size=3) for member in "abc"] == [False, False, True]


def test_backend_join__a_repeated_member_counts_once(backend: ResultBackend) -> None:
    assert [backend.join("g", member, size=3) for member in "aabba"] == [False] * 5
    assert backend.join("g", "c", size=3)


def test_backend_join__true_again_on_every_repeat_until_sealed(
    backend: ResultBackend, another_backend: Callable[[], ResultBackend]
) -> None:
    assert [backend.join("g", member, size=2) for member in "ab"] == [False, True]
    assert [another_backend().join("g", member, size=2) for member in "abba"] == [True] * 4
    backend.seal("g")
    assert [backend.join("g", member, size=2) for member in "abc"] == [False] * 3
    another_backend().seal("g")
    assert not another_backend().join("g", "a", size=2)


def test_backend_join__a_group_of_one(backend: ResultBackend) -> None:
    assert backend.join("g", "only", size=1)
    assert backend.join("g", "only", size=1)
    backend.seal("g")
    assert not backend.join("g", "only", size=1)


def test_backend_join__groups_do_not_leak_into_one_another(backend: ResultBackend) -> None:
    names = ["g", "G", "g ", "gg", "🦊", "🦊🦊", "g:a", "g\0a"]
    for name in names:
        assert not backend.join(name, "a", size=2)
    backend.seal("g")
    for name in names[1:]:
        assert backend.join(name, "🦊 b", size=2)


def test_backend_join__sealing_an_unknown_group(backend: ResultBackend) -> None:
    backend.seal("g")
    assert not backend.join("g", "a", size=1)


def test_backend_join__one_of_many_racing_threads_sees_the_end(realtime_backend: ResultBackend) -> None:
    barrier = threading.Barrier(THREADS)

    def finish(group: str, number: int) -> tuple[bool, bool]:
        barrier.wait(10)
        first = realtime_backend.join(group, f"member {number}", size=THREADS)
        return first, realtime_backend.join(group, f"member {number}", size=THREADS)

    with ThreadPoolExecutor(THREADS) as pool:
        for repeat in range(20):
            group = f"g{repeat}"
            futures = [pool.submit(finish, group, number) for number in range(THREADS)]
            answers = [future.result(30) for future in futures]
            assert sum(first for first, _ in answers) >= 1, "nobody would call the callback"
            assert any(second for _, second in answers)
            assert realtime_backend.join(group, "member 0", size=THREADS)


def test_backend_join__no_thread_sees_the_end_too_early(realtime_backend: ResultBackend) -> None:
    barrier = threading.Barrier(THREADS)

    def finish(number: int) -> bool:
        barrier.wait(10)
        return any(realtime_backend.join("g", f"member {number}", size=THREADS + 1) for _ in range(25))

    with ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(finish, number) for number in range(THREADS)]
        assert not any(future.result(30) for future in futures)
    assert realtime_backend.join("g", "the last", size=THREADS + 1)


def test_backend_join__exactly_one_first_time_true_without_repeats(realtime_backend: ResultBackend) -> None:
    barrier = threading.Barrier(THREADS)

    def finish(group: str, number: int) -> bool:
        barrier.wait(10)
        return realtime_backend.join(group, str(number), size=THREADS)

    with ThreadPoolExecutor(THREADS) as pool:
        for repeat in range(20):
            futures = [pool.submit(finish, f"g{repeat}", number) for number in range(THREADS)]
            assert sum(future.result(30) for future in futures) == 1
