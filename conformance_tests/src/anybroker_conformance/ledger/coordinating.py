"""Wrong result backends of laws 7 and 8: they miscount, and give one lock to two."""

from __future__ import annotations

import time
from typing import Any

from anybroker.memory import MemoryBackend
from anybroker.memory.backend import GROUP_TTL, Group
from anybroker_conformance.ledger.registry import wrong_backend

DAY = 86400.0


# Law 7: join


class Counting(MemoryBackend):
    """Counts members in its own way."""

    def join(self, group_id: str, member_id: str, *, size: int) -> bool:
        store = self._store
        with store.changed:
            now = store.clock.time()
            group = store.groups.get(group_id, now) or Group()
            before = len(group.members)
            if not group.sealed:
                self.add(group, member_id)
            store.groups.put(group_id, group, now + GROUP_TTL, now)
            return self.complete(group, member_id, before, size)

    def add(self, group: Group, member_id: str) -> None:
        """Record a member."""
        group.members.add(member_id)

    def complete(self, group: Group, member_id: str, before: int, size: int) -> bool:  # noqa: ARG002
        """Whether all have finished."""
        return not group.sealed and len(group.members) >= size


@wrong_backend("join", "counts a member that repeats itself again")
class CountsRepeats(Counting):
    def add(self, group: Group, member_id: str) -> None:
        group.members.add(f"{member_id} {len(group.members)}")


@wrong_backend("join", "counts a member twice that repeats itself after another one")
class CountsAfterAnother(Counting):
    def add(self, group: Group, member_id: str) -> None:
        group.members.add(
            member_id if len(group.members) < 2 or member_id not in group.members else f"{member_id} again"
        )


@wrong_backend("join", "complete when one is missing, in groups of more than 100")
class OneMissing(Counting):
    def complete(self, group: Group, member_id: str, before: int, size: int) -> bool:
        return super().complete(group, member_id, before, size - (size > 100))


@wrong_backend("join", "counts in one byte")
class CountsInAByte(Counting):
    def complete(self, group: Group, member_id: str, before: int, size: int) -> bool:  # noqa: ARG002
        return not group.sealed and len(group.members) % 256 >= size


@wrong_backend("join", "True once only")
class TrueOnce(Counting):
    def complete(self, group: Group, member_id: str, before: int, size: int) -> bool:
        return super().complete(group, member_id, before, size) and before < size


@wrong_backend("join", "an additional member makes a complete group incomplete")
class ExactlyAll(Counting):
    def complete(self, group: Group, member_id: str, before: int, size: int) -> bool:  # noqa: ARG002
        return not group.sealed and len(group.members) == size


@wrong_backend("join", "True after seal, for those who are new")
class TrueAfterSeal(Counting):
    def complete(self, group: Group, member_id: str, before: int, size: int) -> bool:
        return super().complete(group, member_id, before, size) or (group.sealed and size == 1)


@wrong_backend("join", "seal lets a group begin anew")
class SealForgets(MemoryBackend):
    def seal(self, group_id: str) -> None:
        with self._store.changed:
            self._store.groups.drop(group_id)


@wrong_backend("join", "seal of a group of which nobody has joined has no effect")
class SealsKnownOnly(MemoryBackend):
    def seal(self, group_id: str) -> None:
        if self._store.groups.get(group_id, self._store.clock.time()) is not None:
            super().seal(group_id)


@wrong_backend("join", "a sealed group is forgotten after half an hour")
class SealedForHalfAnHour(MemoryBackend):
    def seal(self, group_id: str) -> None:
        now = self._store.clock.time()
        super().seal(group_id)
        with self._store.changed:
            self._store.groups.put(group_id, Group(sealed=True), now + 1800, now)


@wrong_backend("join", "names of members are the same in upper and lower case")
class MembersWithoutCase(Counting):
    def add(self, group: Group, member_id: str) -> None:
        group.members.add(member_id.casefold())


@wrong_backend("join", "groups are counted by each object on its own")
class GroupsOfAnObject(MemoryBackend):
    def join(self, group_id: str, member_id: str, *, size: int) -> bool:
        return super().join(f"{group_id}{id(self)}", member_id, size=size)

    def seal(self, group_id: str) -> None:
        super().seal(f"{group_id}{id(self)}")


@wrong_backend("join", "counts first and records then: the last two see each other missing")
class CountsThenRecords(MemoryBackend):
    def join(self, group_id: str, member_id: str, *, size: int) -> bool:
        store = self._store
        with store.changed:
            group = store.groups.get(group_id, store.clock.time()) or Group()
            finished = len(group.members | {member_id})
        time.sleep(0)
        super().join(group_id, member_id, size=size)
        return not group.sealed and finished >= size


@wrong_backend("join", "two that join at the same time overwrite each other")
class JoinsOverwrite(MemoryBackend):
    def join(self, group_id: str, member_id: str, *, size: int) -> bool:
        store = self._store
        now = store.clock.time()
        with store.changed:
            before = store.groups.get(group_id, now) or Group()
        group = Group({*before.members} if before.sealed else {*before.members, member_id}, before.sealed)
        with store.changed:
            store.groups.put(group_id, group, now + GROUP_TTL, now)
        return not group.sealed and len(group.members) >= size


@wrong_backend("join", "a member that is recorded by two at the same time counts twice")
class CountsRacersTwice(MemoryBackend):
    def join(self, group_id: str, member_id: str, *, size: int) -> bool:
        store = self._store
        with store.changed:
            known = store.groups.get(group_id, store.clock.time()) or Group()
            new = member_id not in known.members
        time.sleep(0)
        with store.changed:
            group = store.groups.get(group_id, store.clock.time()) or Group()
            again = new and member_id in group.members
        return super().join(group_id, f"{member_id} again" if again else member_id, size=size)


# Law 8: claim


class Locking(MemoryBackend):
    """Keeps locks in its own way."""

    def claim(self, key: str, *, ttl: float) -> str | None:
        store = self._store
        with store.changed:
            now = store.clock.time()
            holder = store.claims.get(key, now)
            if holder is not None:
                return self.refused(key, holder, ttl)
            token = self.token(key)
            store.claims.put(key, token, now + self.lasting(ttl), now)
            return token

    def token(self, key: str) -> str:  # noqa: ARG002
        """A new one."""
        return str(next(self._store.tokens))

    def lasting(self, ttl: float) -> float:
        """Seconds that a lock lasts."""
        return ttl

    def refused(self, key: str, holder: str, ttl: float) -> str | None:  # noqa: ARG002
        """What those get who come too late."""
        return None


@wrong_backend("claim", "a lock never expires")
class LocksForEver(Locking):
    def lasting(self, ttl: float) -> float:  # noqa: ARG002
        return float("inf")


@wrong_backend("claim", "a lock expires half a second early")
class ExpiresEarly(Locking):
    def lasting(self, ttl: float) -> float:
        return ttl - 0.5


@wrong_backend("claim", "a lock expires a second late")
class ExpiresLate(Locking):
    def lasting(self, ttl: float) -> float:
        return ttl + 1


@wrong_backend("claim", "a lock of more than 30 days is free at once")
class NoLongLocks(Locking):
    def lasting(self, ttl: float) -> float:
        return ttl if ttl <= 30 * DAY else 0


@wrong_backend("claim", "a release that is late says True while nobody else holds the lock")
class LateReleaseTrue(MemoryBackend):
    def release(self, key: str, token: str) -> bool:
        with self._store.changed:
            own, _ = self._store.claims._items.get(key, (None, 0.0))
            return super().release(key, token) or own == token


@wrong_backend("claim", "close releases the locks that were claimed by any object")
class CloseReleases(MemoryBackend):
    def close(self) -> None:
        with self._store.changed:
            for key in list(self._store.claims._items):
                self._store.claims.drop(key)
        super().close()


@wrong_backend("claim", "who holds a lock by this object may claim it again")
class Reentrant(Locking):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.own: set[str] = set()

    def token(self, key: str) -> str:
        self.own.add(token := super().token(key))
        return token

    def refused(self, key: str, holder: str, ttl: float) -> str | None:  # noqa: ARG002
        return holder if holder in self.own else None


@wrong_backend("claim", "a refused claim prolongs the lock")
class RefusedClaimProlongs(Locking):
    def refused(self, key: str, holder: str, ttl: float) -> str | None:
        now = self._store.clock.time()
        self._store.claims.put(key, holder, now + ttl, now)
        return None


@wrong_backend("claim", "a refused claim takes the lock from its holder's token")
class RefusedClaimSteals(Locking):
    def refused(self, key: str, holder: str, ttl: float) -> str | None:  # noqa: ARG002
        _, end = self._store.claims._items[key]
        self._store.claims.put(key, self.token(key), end, self._store.clock.time())
        return None


@wrong_backend("claim", "the token of a lock is always the same")
class SameToken(Locking):
    def token(self, key: str) -> str:
        return f"token of {key}"


@wrong_backend("claim", "tokens are used again after ten")
class TokensComeAgain(Locking):
    def token(self, key: str) -> str:
        return str(int(super().token(key)) % 10)


class Releasing(MemoryBackend):
    """Releases in its own way."""

    def holder(self, key: str) -> str | None:
        """Whose token it is."""
        return self._store.claims.get(key, self._store.clock.time())


@wrong_backend("claim", "any token releases a lock")
class AnyTokenReleases(Releasing):
    def release(self, key: str, token: str) -> bool:
        return super().release(key, self.holder(key) or token)


@wrong_backend("claim", "a token that once held a lock releases it for ever")
class StaleTokenReleases(Releasing):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.given: set[tuple[str, str]] = set()

    def claim(self, key: str, *, ttl: float) -> str | None:
        token = super().claim(key, ttl=ttl)
        if token is not None:
            self.given.add((key, token))
        return token

    def release(self, key: str, token: str) -> bool:
        if (key, token) in self.given and (holder := self.holder(key)):
            return super().release(key, holder)
        return super().release(key, token)


@wrong_backend("claim", "release is always answered with True")
class ReleaseSaysTrue(Releasing):
    def release(self, key: str, token: str) -> bool:
        super().release(key, token)
        return True


@wrong_backend("claim", "the release of a lock that has expired is answered with True")
class ReleasesExpired(Releasing):
    def release(self, key: str, token: str) -> bool:
        last, _ = self._store.claims._items.get(key, ("", 0))
        return super().release(key, token) or (last == token and self.holder(key) is None)


@wrong_backend("claim", "who releases a lock keeps it until its ttl has passed")
class ReleaseDoesNothing(Releasing):
    def release(self, key: str, token: str) -> bool:
        return self.holder(key) == token


@wrong_backend("claim", "looks first and takes then: two get it")
class LooksThenTakes(Releasing):
    def claim(self, key: str, *, ttl: float) -> str | None:
        if self.holder(key) is not None:
            return None
        token = str(next(self._store.tokens))
        with self._store.changed:
            now = self._store.clock.time()
            self._store.claims.put(key, token, now + ttl, now)
        return token


@wrong_backend("claim", "two who take over an expired lock at the same time both get it")
class TakesOverTwice(Locking):
    def claim(self, key: str, *, ttl: float) -> str | None:
        with self._store.changed:
            _, end = self._store.claims._items.get(key, ("", None))
            expired = end is not None and end <= self._store.clock.time()
        if expired:
            time.sleep(0)
            with self._store.changed:
                self._store.claims.drop(key)
        return super().claim(key, ttl=ttl)


@wrong_backend("claim", "two releases at the same time are both answered with True")
class ReleasesTwice(Releasing):
    def release(self, key: str, token: str) -> bool:
        held = self.holder(key) == token
        time.sleep(0)
        return super().release(key, token) or held
