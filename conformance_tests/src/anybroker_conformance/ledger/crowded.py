"""Wrong result backends of laws 9, 10 and 12: what is alike gets mixed up, threads disturb each other, memory grows."""

from __future__ import annotations

import threading
import time
import unicodedata
from typing import TYPE_CHECKING, Any

import msgspec

from anybroker.memory import MemoryBackend
from anybroker_conformance.ledger.registry import wrong_backend

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anybroker.backend import Result

# Law 9: isolation


class Renaming(MemoryBackend):
    """Stores under other names than it is given."""

    def name(self, text: str) -> str:
        """The name under which it stores."""
        raise NotImplementedError

    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        return super().store([msgspec.structs.replace(one, id=self.name(one.id)) for one in results], ttl=ttl)

    def fetch(self, ids: Sequence[str]) -> list[Result | None]:
        found = super().fetch([self.name(id_) for id_ in ids])
        return [one and msgspec.structs.replace(one, id=id_) for id_, one in zip(ids, found, strict=True)]

    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        super().wait([self.name(id_) for id_ in ids], timeout=timeout)
        return [one for one in self.fetch(list(dict.fromkeys(ids))) if one is not None and one.state.final]

    def forget(self, ids: Sequence[str]) -> None:
        super().forget([self.name(id_) for id_ in ids])


def confuses(text: str, name: str, change: Callable[[str], str]) -> None:
    """Register a backend that takes some ids for the same."""

    class Confuses(Renaming):
        def name(self, text: str) -> str:
            return change(text)

    Confuses.__name__ = name
    wrong_backend("isolation", text)(Confuses)


confuses("ids are the same in upper and lower case", "IdsWithoutCase", str.lower)
confuses("ids are normalised", "IdsNormalised", lambda text: unicodedata.normalize("NFC", text))
confuses("spaces around an id are taken away", "IdsStripped", str.strip)
confuses("ids are cut off after 64 characters", "IdsCutAt64", lambda text: text[:64])
confuses(
    "ids are cut off after 250 bytes", "IdsCutAt250Bytes", lambda text: text.encode()[:250].decode(errors="ignore")
)
confuses("ids are cut off after 250 characters", "IdsCutAt250", lambda text: text[:250])
confuses("an id ends at a zero byte", "IdsEndAtZero", lambda text: text.partition("\0")[0] or text)
confuses(
    "what is no ASCII becomes a question mark", "IdsAreAscii", lambda text: text.encode("ascii", "replace").decode()
)


@wrong_backend("isolation", "forget takes all ids that begin like this")
class ForgetsByPrefix(MemoryBackend):
    def forget(self, ids: Sequence[str]) -> None:
        names = list(self._store.results._items)
        super().forget([name for name in names if name.startswith(tuple(ids))])


@wrong_backend("isolation", "forget understands a star")
class ForgetsByStar(MemoryBackend):
    def forget(self, ids: Sequence[str]) -> None:
        names = list(self._store.results._items)
        stars = tuple(id_.removesuffix("*") for id_ in ids if id_.endswith("*"))
        super().forget([*ids, *(name for name in names if stars and name.startswith(stars))])


@wrong_backend("isolation", "a member is stored as group:member")
class MembersByColon(MemoryBackend):
    def join(self, group_id: str, member_id: str, *, size: int) -> bool:
        whole = f"{group_id}:{member_id}"
        group, _, member = whole.rpartition(":")
        return super().join(group, member, size=size)

    def seal(self, group_id: str) -> None:
        super().seal(group_id)


@wrong_backend("isolation", "groups are the same in upper and lower case")
class GroupsWithoutCase(MemoryBackend):
    def join(self, group_id: str, member_id: str, *, size: int) -> bool:
        return super().join(group_id.lower(), member_id, size=size)

    def seal(self, group_id: str) -> None:
        super().seal(group_id.lower())


@wrong_backend("isolation", "locks are cut off after 100 characters")
class LocksCutOff(MemoryBackend):
    def claim(self, key: str, *, ttl: float) -> str | None:
        return super().claim(key[:100], ttl=ttl)

    def release(self, key: str, token: str) -> bool:
        return super().release(key[:100], token)


@wrong_backend("isolation", "forget takes the lock of this name, too")
class ForgetsLocks(MemoryBackend):
    def forget(self, ids: Sequence[str]) -> None:
        super().forget(ids)
        with self._store.changed:
            for id_ in ids:
                self._store.claims.drop(id_)


@wrong_backend("isolation", "release takes the group of this name, too")
class ReleaseTakesGroup(MemoryBackend):
    def release(self, key: str, token: str) -> bool:
        released = super().release(key, token)
        if released:
            with self._store.changed:
                self._store.groups.drop(key)
        return released


@wrong_backend("isolation", "seal takes the result of this name, too")
class SealTakesResult(MemoryBackend):
    def seal(self, group_id: str) -> None:
        super().seal(group_id)
        self.forget([group_id])


# Law 10: concurrent


@wrong_backend("concurrent", "threads that read at the same time get each other's results")
class SharedBuffer(MemoryBackend):
    wanted: Sequence[str] = ()

    def fetch(self, ids: Sequence[str]) -> list[Result | None]:
        self.wanted = ids
        time.sleep(0)
        found = super().fetch(self.wanted)
        return [*found, *[None] * len(ids)][: len(ids)]


@wrong_backend("concurrent", "what two threads store at the same time is lost for one of them")
class RacingStores(MemoryBackend):
    inside = 0

    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        self.inside += 1
        try:
            time.sleep(0)
            if self.inside > 1:
                return [*super().store(results[:-1], ttl=ttl), True][: len(results)]
            return super().store(results, ttl=ttl)
        finally:
            self.inside -= 1


@wrong_backend("concurrent", "a call that is under way when the object is closed raises an error of Python")
class BreaksOnClose(MemoryBackend):
    connection: dict[str, int] | None

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.connection = {}

    def fetch(self, ids: Sequence[str]) -> list[Result | None]:
        if self.connection is None:
            raise AttributeError("'NoneType' object has no attribute 'send'")
        return super().fetch(ids)

    def close(self) -> None:
        self.connection = None
        time.sleep(0.01)
        super().close()


@wrong_backend("concurrent", "the child of a fork waits for a lock that nobody releases")
class HangsAfterFork(MemoryBackend):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.lock = threading.Lock()

    def fetch(self, ids: Sequence[str]) -> list[Result | None]:
        with self.lock:
            time.sleep(0.0005)
            return super().fetch(ids)


# Law 12: bounded


@wrong_backend("bounded", "keeps what has expired")
class KeepsExpired(MemoryBackend):
    def store(self, results: Sequence[Result], *, ttl: float | None) -> list[bool]:
        self._store.__dict__.setdefault("expired", []).extend(results if ttl is not None else ())
        return super().store(results, ttl=ttl)


@wrong_backend("bounded", "keeps the names of what was forgotten")
class KeepsForgotten(MemoryBackend):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.forgotten: set[str] = set()

    def forget(self, ids: Sequence[str]) -> None:
        super().forget(ids)
        self.forgotten.update(ids)


@wrong_backend("bounded", "keeps every lock that there ever was")
class KeepsLocks(MemoryBackend):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.locks: dict[str, str] = {}

    def claim(self, key: str, *, ttl: float) -> str | None:
        token = super().claim(key, ttl=ttl)
        self.locks[key] = token or ""
        return token


@wrong_backend("bounded", "keeps the members of every group that there ever was")
class KeepsMembers(MemoryBackend):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.members: set[str] = set()

    def join(self, group_id: str, member_id: str, *, size: int) -> bool:
        self.members.add(member_id)
        return super().join(group_id, member_id, size=size)


@wrong_backend("bounded", "keeps what was ever waited for")
class KeepsWaits(MemoryBackend):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.waits: list[list[str]] = []

    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        self.waits.append([*ids])
        return super().wait(ids, timeout=timeout)


@wrong_backend("bounded", "starts a thread for a wait in twenty, and keeps it")
class KeepsWaitingThreads(MemoryBackend):
    waits = 0

    def wait(self, ids: Sequence[str], *, timeout: float) -> list[Result]:
        self.waits += 1
        if self.waits % 20 == 0:
            threading.Thread(target=threading.Event().wait, args=(60,), daemon=True).start()
        return super().wait(ids, timeout=timeout)


@wrong_backend("bounded", "an object that is closed leaves its thread")
class LeavesThread(MemoryBackend):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        threading.Thread(target=threading.Event().wait, args=(120,), daemon=True).start()
