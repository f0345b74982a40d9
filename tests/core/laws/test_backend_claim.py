"""Claim: one holder, until it releases the lock or its ttl has passed; a token fences it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker.backend import ResultBackend

THREADS = 8


def test_backend_claim__one_holder(backend: ResultBackend, another_backend: Callable[[], ResultBackend]) -> None:
    token = backend.claim("lock", ttl=600)
    assert token
    assert backend.claim("lock", ttl=600) is None
    assert another_backend().claim("lock", ttl=600) is None


def test_backend_claim__free_after_release(
    backend: ResultBackend, another_backend: Callable[[], ResultBackend]
) -> None:
    token = backend.claim("lock", ttl=600)
    assert token
    assert another_backend().release("lock", token)
    assert not backend.release("lock", token)
    fresh = backend.claim("lock", ttl=600)
    assert fresh
    assert fresh != token


def test_backend_claim__free_after_its_ttl(
    backend: ResultBackend, advance: Callable[[float], None], short: float
) -> None:
    stale = backend.claim("lock", ttl=short)
    assert stale
    advance(short * 1.2)
    fresh = backend.claim("lock", ttl=600)
    assert fresh
    assert fresh != stale
    assert not backend.release("lock", stale), "a stale token has released another one's lock"
    assert backend.claim("lock", ttl=600) is None
    assert backend.release("lock", fresh)


def test_backend_claim__an_expired_lock_cannot_be_released(
    backend: ResultBackend, advance: Callable[[float], None], short: float
) -> None:
    token = backend.claim("lock", ttl=short)
    assert token
    advance(short * 1.2)
    assert not backend.release("lock", token)


def test_backend_claim__a_refused_claim_does_not_prolong(
    backend: ResultBackend, advance: Callable[[float], None], short: float
) -> None:
    assert backend.claim("lock", ttl=short)
    assert backend.claim("lock", ttl=600) is None
    advance(short * 1.2)
    assert backend.claim("lock", ttl=600)


def test_backend_claim__the_wrong_token_releases_nothing(backend: ResultBackend) -> None:
    assert not backend.release("lock", "made up")
    mine, other = backend.claim("lock", ttl=600), backend.claim("other", ttl=600)
    assert mine
    assert other
    assert not backend.release("lock", other)
    assert not backend.release("lock", "")
    assert backend.claim("lock", ttl=600) is None


def test_backend_claim__keys_do_not_leak_into_one_another(backend: ResultBackend) -> None:
    keys = ["k", "K", "kk", "k ", "🦊", "🦊🦊", "k:1", "k\0", "%", "_"]
    assert all(backend.claim(key, ttl=600) for key in keys)
    assert not any(backend.claim(key, ttl=600) for key in keys)


def test_backend_claim__one_of_many_racing_threads(realtime_backend: ResultBackend) -> None:
    barrier = threading.Barrier(THREADS)

    def race(key: str) -> str | None:
        barrier.wait(10)
        return realtime_backend.claim(key, ttl=600)

    with ThreadPoolExecutor(THREADS) as pool:
        for repeat in range(20):
            futures = [pool.submit(race, f"lock {repeat}") for _ in range(THREADS)]
            assert len([token for one in futures if (token := one.result(30))]) == 1
