"""Law 9: ids, groups and locks do not leak into one another; any unicode text is an id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anybroker.backend import Result, State
from anybroker_conformance.subject import LawBroken

if TYPE_CHECKING:
    from anybroker_conformance.backend.subject import BackendSubject

ALIKE = (
    *("k", "K", "kk", "k ", " k", "k  k", "k\t", "k\n", "k.", "k-", "k_", "k0", "k1", "k01", "k1.0"),
    *("0", "1", "01", "1.0", "-1", "1e3", "1000", "null", "None", "nil", "true", "NaN", "inf", "undefined"),
    *("k:1", "k::1", ":k", "k:", "k/1", "k//1", "k/../k", "../k", "k\\1", "k.1", "k,1", "k;1", "k|1", "k#1", "k?1"),
    *("k&1", "k=1", "k\0", "k\x001", "\0k", "k%", "k%25", "k%31", "%", "%%", "%s", "_", "k*", "*", "k?", "[k]"),
    *("k[a]", "k{1}", "{k}", "k{k}", "k'", "'k'", '"k"', "k'--", "k`", "$k", "${k}", "@k", "k@1", "~k", "k+1"),
    *("k 1", "k%201", "^k$", "(k)", "k<1>", "k!", "DROP TABLE results", "--", "sealed", "members"),
    *(
        "é",
        "e\u0301",
        "É",
        "ß",
        "ss",
        "SS",
        "\ufb01",
        "fi",
        "İ",
        "i",
        "I",
        "\u0131",
        "\xb5",
        "\u03bc",
        "\xc5",
        "\u212b",
    ),
    *("\u0410", "A", "a", "\uff41", "🦊", "🦊🦊", "🦊 ", "👩\u200d👧", "👩", "日本", "日本語", "\u0627", "\u200bk"),
    *("k\u200b", "\ufeffk", "k\u00a0", "\u2028", "\U0010ffff"),
)
"""Texts that somebody could take for one another, or for something else."""
LENGTHS = (16, 31, 32, 63, 64, 79, 100, 127, 128, 200, 250, 255, 256)
"""Where a name may be cut off."""
SUFFIXES = (":members", ":sealed", ":lock", ":group", ":size", ":count", ":done", ":result", ":token", ".lock", "/lock")


class Isolation:
    """Law 9."""

    def test_law09_isolation__results(self, results: BackendSubject) -> None:
        """Ids that are alike have each a result, and each is forgotten alone."""
        stored = [
            Result(id_, State.SUCCEEDED if n % 2 else State.RUNNING, 1 + n % 3, f"{n} {id_}".encode())
            for n, id_ in enumerate(_alike(results))
        ]
        for one in stored:
            results.put(one)
        results.assert_there(stored, why="only others were stored after it")
        ids = [one.id for one in stored]
        _assert_waited(results, stored, ids)
        for one in stored[:40]:
            results.assert_there([one], why="it is asked for alone")
            _assert_waited(results, [one], [one.id])
        results.backend.forget(ids[::2])
        results.assert_there(stored[1::2], why="only others were forgotten")
        results.assert_none(ids[::2], why="it was forgotten")
        for n, one in enumerate(stored[1::2]):
            if n % 3 == 0:
                results.backend.forget([one.id])
        left = [one for n, one in enumerate(stored[1::2]) if n % 3]
        results.assert_there(left, why="only others were forgotten, one by one")

    def test_law09_isolation__ttls(self, results: BackendSubject) -> None:
        """The ttl of one id does not end another."""
        ids = _alike(results)
        stored = [Result(id_, State.SUCCEEDED, 1, id_.encode()) for id_ in ids]
        results.put(*stored[::2])
        results.put(*stored[1::2], ttl=results.brief)
        results.outlive()
        results.assert_there(stored[::2], why="only the ttl of others has ended")
        results.assert_none(ids[1::2], why="its ttl has ended")

    def test_law09_isolation__groups(self, results: BackendSubject) -> None:
        """Groups that are alike have each members of their own, and each is sealed alone."""
        groups = _alike(results)
        for group in groups:
            if results.backend.join(group, "a", size=2):
                raise LawBroken("a group is complete after one member of two: another group's was counted", group)
        for group in groups[::3]:
            results.backend.seal(group)
        for number, group in enumerate(groups):
            if results.backend.join(group, "b", size=2) != bool(number % 3):
                why = "it is not sealed; others are" if number % 3 else "it is sealed"
                raise LawBroken(f"join answered {not number % 3} to the second member of two although {why}", group)

    def test_law09_isolation__groups_and_members(self, results: BackendSubject) -> None:
        """Where the group ends and the member begins is not confused."""
        for separator in (":", "/", ".", "\0", "-", "_", "|", ",", " ", "", "::", "\n", "{", "}"):
            group = results.id("group")
            longer = f"{group}{separator}a"
            joined = [
                (group, f"a{separator}b"),
                (longer, "b"),
                (longer, f"b{separator}c"),
                (group, f"a{separator}b{separator}c"),
            ]
            for number, (name, member) in enumerate(joined):
                complete = results.backend.join(name, member, size=2)
                if complete != (number >= 2):
                    raise LawBroken(f"join of member {member!r} answered {complete}", name)

    def test_law09_isolation__locks(self, results: BackendSubject) -> None:
        """Locks that are alike have each a holder, and each is released alone."""
        keys = _alike(results)
        tokens = [results.claim(key, why="only others are held") for key in keys]
        for key in keys:
            results.assert_held(key, why="somebody holds it")
        for key, token in list(zip(keys, tokens, strict=True))[::2]:
            if not results.backend.release(key, token):
                raise LawBroken("release answered False to the holder's token", key)
        for key in keys[1::2]:
            results.assert_held(key, why="only others were released")
        for key in keys[::2]:
            results.claim(key, why="it was released")

    def test_law09_isolation__results_groups_and_locks(self, results: BackendSubject) -> None:
        """One name may be that of a result, of a group and of a lock, and they know nothing of each other."""
        name = results.id()
        names = [name, *(name + suffix for suffix in SUFFIXES), f"result:{name}", f"group:{name}", f"lock:{name}"]
        stored = [Result(one, State.SUCCEEDED, 1, b"%d" % n) for n, one in enumerate(names)]
        members = {one: [f"{n}", name, *SUFFIXES] for n, one in enumerate(names)}
        size = len(SUFFIXES) + 3
        results.put(*stored)
        tokens = {one: results.claim(one, why="there is a result of that name, but no lock") for one in names}
        for one in names:
            for member in members[one]:
                if results.backend.join(one, member, size=size):
                    raise LawBroken("a group is complete although one member is missing", one)
        results.assert_there(stored, why="only locks and groups of that name were used")
        results.backend.forget(names[::2])
        results.assert_none(names[::2], why="it was forgotten")
        for one in names:
            results.assert_held(one, why="only results of that name were forgotten")
            if not results.backend.join(one, "last", size=size):
                raise LawBroken("a group is not complete although all have joined; only results were forgotten", one)
            results.backend.seal(one)
        results.assert_there(stored[1::2], why="only groups of that name were sealed")
        for one, token in tokens.items():
            if not results.backend.release(one, token):
                raise LawBroken("release answered False to the holder's token; only a group was sealed", one)
            if results.backend.join(one, "last", size=1):
                raise LawBroken("a group is no longer sealed; only a lock was released", one)
        results.assert_there(stored[1::2], why="only locks of that name were released")
        results.assert_none(names[::2], why="it was forgotten")

    def test_law09_isolation__a_claim_ends_alone(self, results: BackendSubject) -> None:
        """The end of a lock's ttl is not that of a result of this name, nor the other way round."""
        first, second = results.id(), results.id()
        results.put(Result(first, State.SUCCEEDED, 1), ttl=results.brief)
        results.claim(first, why="nobody holds it")
        results.put(Result(second, State.SUCCEEDED, 1))
        results.claim(second, ttl=results.brief, why="nobody holds it")
        results.outlive()
        results.assert_none([first], why="its ttl has ended")
        results.assert_held(first, why="only the ttl of a result of this name has ended")
        results.assert_there([Result(second, State.SUCCEEDED, 1)], why="only the ttl of a lock of this name has ended")
        results.claim(second, why="its ttl has passed")


def _alike(results: BackendSubject) -> list[str]:
    """Names that are alike, and are this test's alone: with its own text behind, or before, or both."""
    own = results.id("n")
    names = [f"{text}{own}" for text in ALIKE] + [f"{own}{text}" for text in ALIKE]
    names += [own + "x" * (length - len(own) + more) + end for length in LENGTHS for more in (-1, 0, 1) for end in "ab"]
    names += ["🦊" * 40 + own + end for end in "ab"] + [own + "🦊" * 60, own + "🦊" * 59 + "🐺"]
    names += [own.upper(), own[:-1], own + own]
    return list(dict.fromkeys(names))


def _assert_waited(results: BackendSubject, stored: list[Result], ids: list[str]) -> None:
    final = {one.id: one for one in stored if one.state.final}
    found = {one.id: one for one in results.backend.wait(ids, timeout=0)}
    for id_ in final.keys() | found.keys():
        if found.get(id_) != final.get(id_):
            raise LawBroken("wait found another result, or none", id_)
