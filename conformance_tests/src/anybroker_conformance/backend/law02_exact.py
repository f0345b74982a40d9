"""Law 2: results come back as they went in; one byte too many is refused before sending."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from anybroker.backend import Result, State
from anybroker.errors import MessageTooLarge
from anybroker_conformance.backend.subject import shown
from anybroker_conformance.subject import LawBroken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anybroker_conformance.backend.subject import BackendSubject

LARGEST = 64 * 1024 * 1024
"""Bytes of a body that a test is willing to send."""
BUDGET = 8 * 1024 * 1024
"""Bytes of one call, at most, where a test says nothing else."""
INT32 = 2**31 - 1


class Exact:
    """Law 2."""

    def test_law02_exact__every_byte(self, results: BackendSubject) -> None:
        """No byte, and no pair of bytes, is changed, added or taken away, wherever it stands."""
        bodies = [bytes([byte]) for byte in range(256)]
        bodies += [b"begin" + body for body in bodies[:256]] + [body + b"end" for body in bodies[:256]]
        bodies += [body * 300 for body in bodies[:256]]
        bodies += [bytes(pair for first in range(256) for second in range(256) for pair in (first, second))]
        _assert_exact(results, [results.result(body) for body in bodies])

    def test_law02_exact__telling_bodies(self, results: BackendSubject) -> None:
        """Bodies that look like something else: text, numbers, nothing, compressed data, other results."""
        chance = random.Random(4)  # noqa: S311 (bytes that do not compress)
        bodies = [b"", b" ", b"\0", b"\0\0", b"\n", b"\r\n", b"x\n", b"x\0", b" x ", b"\xef\xbb\xbfx", b"\xff\xfe\0\0"]
        bodies += [
            b"null",
            b"None",
            b"0",
            b"1",
            b"-1",
            b"1e9",
            b"true",
            b"{}",
            b"[]",
            b'"x"',
            b"'",
            b"\\",
            b"\\x00",
            b"%s",
        ]
        bodies += [
            "nested 🦊 é é".encode(),
            "🦊".encode("utf-16"),
            b"\xc3\x28",
            b"\xed\xa0\x80",
            b"\x1f\x8b\x08\0",
            b"x\x9c",
        ]
        bodies += [
            b"\x80\x04N.",
            b"$5\r\nhello\r\n",
            b"END\r\n",
            b"+OK\r\n",
            b"SU5G",
            b"a" * 100_000,
            chance.randbytes(100_000),
        ]
        _assert_exact(results, [results.result(body) for body in bodies])

    def test_law02_exact__every_size(self, results: BackendSubject) -> None:
        """Sizes around every limit that a service or a protocol may have."""
        chance = random.Random(2)  # noqa: S311 (bytes that do not compress)
        limits = [2**power for power in range(7, 21)] + [1000, 10_000, 100_000, 1_000_000, 3 * 2**20]
        sizes = sorted({size + more for size in limits for more in (-1, 0, 1)})
        bodies = [chance.randbytes(size) for size in sizes if size <= results.capabilities.max_body]
        _assert_exact(results, [results.result(body) for body in bodies])

    def test_law02_exact__every_state_and_attempt(self, results: BackendSubject) -> None:
        attempts = [1, 2, 9, 10, 127, 128, 255, 256, 32_767, 32_768, 65_535, 65_536, 2**24 + 1, INT32]
        stored = [
            results.result(body, state=state, attempt=attempt)
            for state in State
            for attempt in attempts
            for body in (b"", b"body")
        ]
        _assert_exact(results, stored)

    def test_law02_exact__a_body_replaces_all_of_another(self, results: BackendSubject) -> None:
        """Shorter, longer, empty: nothing is left of the one before."""
        bodies = [b"long" * 1000, b"short", b"", b"long again" * 500, b"", b"last"]
        ids = [results.id() for _ in range(5)]
        for attempt, body in enumerate(bodies, 1):
            stored = [Result(id_, State.RETRYING, attempt, body + body[:n]) for n, id_ in enumerate(ids)]
            results.put(*stored)
            results.assert_there(stored, why="it has replaced another")

    def test_law02_exact__in_the_order_asked_for(self, results: BackendSubject) -> None:
        """``fetch`` answers for each id in its place: known or not, once or more often."""
        stored = {one.id: one for one in (results.result(b"%d" % n) for n in range(40))}
        results.put(*stored.values())
        unknown = [results.id("unknown") for _ in range(20)]
        chance = random.Random(1)  # noqa: S311 (any order will do)
        for number in (0, 1, 2, 3, 10, 60, 150):
            asked = chance.choices([*stored, *unknown], k=number)
            found = results.backend.fetch(asked)
            for id_, one in zip(asked, found, strict=True):
                if one != stored.get(id_):
                    raise LawBroken(f"fetch({len(asked)} ids) answered with another result in this one's place", id_)
        twice = [*stored][:3] * 2 + unknown[:1] * 2
        if results.backend.fetch(twice) != [stored.get(id_) for id_ in twice]:
            raise LawBroken("an id that is asked for twice is not answered twice", twice[0])

    def test_law02_exact__empty_sequences(self, results: BackendSubject) -> None:
        stored = [results.result(b"%d" % n) for n in range(3)]
        results.put(*stored)
        assert results.backend.store([], ttl=None) == [], "store of nothing answers nothing"
        assert results.backend.store([], ttl=60) == [], "store of nothing answers nothing"
        assert results.backend.fetch([]) == [], "fetch of nothing finds nothing"
        assert results.backend.wait([], timeout=0) == [], "wait for nothing finds nothing"
        results.backend.forget([])
        results.assert_there(stored, why="nothing was done with it")

    def test_law02_exact__hundreds_at_once(self, results: BackendSubject) -> None:
        """Asked for in one call, and waited for in one."""
        stored = {one.id: one for one in (results.result(b"%d" % n) for n in range(1_100))}
        results.put(*stored.values())
        for id_, one in zip(stored, results.backend.fetch([*stored]), strict=True):
            if one != stored[id_]:
                raise LawBroken(f"fetch of {len(stored):,} ids answered with {shown(one)} in this one's place", id_)
        found = {one.id: one for one in results.backend.wait([*stored], timeout=0)}
        for id_, one in stored.items():
            if found.get(id_) != one:
                raise LawBroken(f"wait for {len(stored):,} ids found {shown(found.get(id_))} for this one", id_)

    def test_law02_exact__any_sequence(self, results: BackendSubject) -> None:
        """A tuple is a sequence too."""
        stored = (results.result(b"1"), results.result(b"2"))
        assert results.backend.store(stored, ttl=60) == [True, True], "store takes a tuple"
        ids = tuple(one.id for one in stored)
        assert results.backend.fetch(ids) == [*stored], "fetch takes a tuple"
        assert {one.id for one in results.backend.wait(ids, timeout=0)} == {*ids}, "wait takes a tuple"
        results.backend.forget(ids[:1])
        results.assert_fetched({ids[0]: None, ids[1]: stored[1]}, why="the first of them was forgotten")

    def test_law02_exact__the_largest_body(self, results: BackendSubject) -> None:
        largest = _largest(results)
        chance = random.Random(3)  # noqa: S311 (bytes that do not compress)
        for body in (b"\xff" * largest, chance.randbytes(largest), chance.randbytes(largest - 1)):
            stored = results.result(body)
            results.put(stored)
            results.assert_there([stored], why=f"its body has {len(body):,} bytes, which is allowed")
            results.backend.forget([stored.id])

    @pytest.mark.parametrize("position", [0, 1, 2], ids=["first", "middle", "last"])
    def test_law02_exact__one_byte_more(self, results: BackendSubject, position: int) -> None:
        """Is ``MessageTooLarge``, and nothing of its batch is stored, and nothing that was there is changed."""
        batch = [results.result(b"fits") for _ in range(3)]
        batch[position] = results.result(b"x" * (_largest(results) + 1))
        there = results.result(b"there", state=State.RUNNING)
        results.put(there)
        final = Result(there.id, State.SUCCEEDED, 1, b"of the batch")
        for ttl in (60.0, None):
            try:
                answers = results.backend.store([final, *batch, final], ttl=ttl)
            except MessageTooLarge:
                pass
            else:
                raise LawBroken(
                    f"a body of max_body + 1 bytes was not refused: store answered {answers}", batch[position].id
                )
            results.assert_there([there], why="the batch that would replace it was refused")
            results.assert_none([one.id for one in batch], why="a body of its batch is too large")
        results.put(*(one for one in batch if one.body == b"fits"))


def _largest(results: BackendSubject) -> int:
    largest = results.capabilities.max_body
    if largest > LARGEST:
        results.untested(f"bodies of max_body ({largest:,} bytes): more than {LARGEST:,} are not sent by a test")
    return largest


def _assert_exact(results: BackendSubject, stored: list[Result]) -> None:
    """Store in batches of a bearable size, fetch and wait."""
    for batch in _batches([one for one in stored if len(one.body) <= results.capabilities.max_body]):
        results.put(*batch)
        results.assert_there(batch, why="it was stored like that")
        final = {one.id: one for one in batch if one.state.final}
        found = results.backend.wait([*final], timeout=0)
        for one in found:
            if final.get(one.id) != one:
                raise LawBroken("wait returned a result that is not as it was stored", one.id)
        if missing := final.keys() - {one.id for one in found}:
            raise LawBroken("wait does not find a result that is final", min(missing))


def _batches(stored: list[Result]) -> Iterator[list[Result]]:
    batch: list[Result] = []
    for result in stored:
        if batch and (len(batch) == 300 or sum(len(one.body) for one in batch) + len(result.body) > BUDGET):
            yield batch
            batch = []
        batch.append(result)
    if batch:
        yield batch
