"""Law 4: a forgotten or expired result never comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anybroker.backend import Result, State
from anybroker_conformance.backend.subject import KEPT
from anybroker_conformance.subject import LawBroken

if TYPE_CHECKING:
    from anybroker_conformance.backend.subject import BackendSubject


class Gone:
    """Law 4."""

    def test_law04_gone__forgotten(self, results: BackendSubject) -> None:
        """What is forgotten is gone for everybody, whatever it was, in one call or many; the others stay."""
        reader = results.objects(2)[1]
        stored = [results.result(b"%d" % n, state=state, attempt=1 + n % 3) for n in range(15) for state in State]
        results.put(*stored[::2], ttl=None)
        results.put(*stored[1::2])
        results.assert_there(stored, why="it was stored", backend=reader)
        results.backend.forget([])
        results.assert_there(stored, why="none was forgotten")
        forgotten, kept = stored[::3], [one for n, one in enumerate(stored) if n % 3]
        results.backend.forget([forgotten[0].id])
        results.assert_none([forgotten[0].id], why="it was forgotten")
        results.assert_there(stored[1:], why="another one was forgotten")
        unknown = results.id("unknown")
        results.backend.forget([unknown, *(one.id for one in forgotten), unknown, forgotten[1].id])
        for backend in (results.backend, reader):
            results.assert_none([one.id for one in forgotten], why="it was forgotten", backend=backend)
            results.assert_there(kept, why="others were forgotten", backend=backend)
        results.backend.forget([one.id for one in forgotten])
        results.assert_there(kept, why="others were forgotten again")
        results.advance(results.brief)
        results.assert_none([one.id for one in forgotten], why="it was forgotten, some time ago", backend=reader)

    def test_law04_gone__hundreds_at_once(self, results: BackendSubject) -> None:
        stored = [results.result() for _ in range(1_001)]
        kept = results.result(b"kept")
        results.put(*stored, kept)
        results.backend.forget([one.id for one in stored])
        results.assert_none([one.id for one in stored], why="it was forgotten with 1,000 others")
        results.assert_there([kept], why="1,001 others were forgotten")

    def test_law04_gone__a_forgotten_result_is_no_rival(self, results: BackendSubject) -> None:
        """Whatever comes after it is new, and has a ttl of its own."""
        old = [results.result(b"old", state=state, attempt=9) for state in State]
        results.put(*old, ttl=results.brief)
        results.backend.forget([one.id for one in old])
        new = [Result(one.id, State.RUNNING, 1, b"new") for one in old]
        results.put(*new, ttl=KEPT if results.clock is None else None)
        results.assert_there(new, why="what was there before was forgotten")
        for one in results.backend.wait([one.id for one in new], timeout=0):
            raise LawBroken("wait returned a result that was forgotten and is running again", one.id)
        results.outlive()
        results.assert_there(new, why="the ttl that has ended was that of a result forgotten long ago")
        results.backend.forget([one.id for one in new])
        results.assert_none([one.id for one in new], why="it was forgotten for the second time")

    def test_law04_gone__expired(self, results: BackendSubject) -> None:
        """What has expired is gone for everybody, whatever it was, looked at before or not; the others stay."""
        reader = results.objects(2)[1]
        brief = [results.result(b"brief", state=state) for state in State for _ in range(30)]
        kept = [results.result(b"kept", state=state) for state in State]
        rewritten = [results.result(b"first", state=State.RUNNING) for _ in range(10)]
        results.put(*brief, *rewritten, ttl=results.brief)
        results.put(*kept[::2], ttl=None)
        results.put(*kept[1::2])
        longer = [Result(one.id, State.SUCCEEDED, 1, b"longer") for one in rewritten]
        results.put(*longer)
        results.outlive()
        for backend in (results.backend, reader):
            results.assert_none([one.id for one in brief], why="its ttl has ended", backend=backend)
            results.assert_there([*kept, *longer], why="only the ttl of others has ended", backend=backend)
        results.put(results.result(b"another"))
        results.backend.forget([results.id("unknown")])
        results.advance(results.brief / 2)
        results.assert_none([one.id for one in brief], why="its ttl ended some time ago")
        results.assert_there([*kept, *longer], why="only the ttl of others has ended")

    def test_law04_gone__an_expired_result_is_no_rival(self, results: BackendSubject) -> None:
        """Whatever comes after it is new, whoever writes it, and stays as long as its own ttl says."""
        old = [results.result(b"old", state=state, attempt=9) for state in State]
        refused = results.result(b"old")
        results.put(*old, refused, ttl=results.brief)
        was_refused = results.backend.store([Result(refused.id, State.RUNNING, 1, b"refused")], ttl=KEPT) == [False]
        results.outlive()
        if was_refused:  # otherwise the machine was so slow that it had expired
            results.assert_none([refused.id], why="its ttl has ended; what was refused is no result")
        new = [Result(one.id, State.RUNNING, 1 + n % 9, b"new") for n, one in enumerate(old)]
        results.put(*new, ttl=None)
        results.assert_there(new, why="what was there before has expired")
        for one in results.backend.wait([one.id for one in new], timeout=0):
            raise LawBroken("wait returned a result that has expired", one.id)
        results.advance(results.brief / 2)
        results.assert_there(new, why="what was there before has expired")

    def test_law04_gone__forgotten_by_others(self, results: BackendSubject) -> None:
        """An object that knows a result learns that another one has forgotten it."""
        objects = results.objects(3)
        for turn in range(9):
            writer, reader, forgetter = (objects[(turn + n) % 3] for n in range(3))
            stored = [results.result(b"%d" % turn, state=state) for state in State]
            results.put(*stored, backend=writer)
            results.assert_there(stored, why="it was stored", backend=reader)
            forgetter.forget([one.id for one in stored])
            for backend in objects:
                results.assert_none([one.id for one in stored], why="it was forgotten", backend=backend)
