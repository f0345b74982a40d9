"""The connection of one object: collections with their indexes, in each process that uses it."""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import ReadPreference, WriteConcern

from anybroker.capabilities import Durability
from anybroker.errors import BrokerUnavailable, ConfigurationError
from anybroker_broker_mongodb import clients
from anybroker_broker_mongodb.translation import translated
from anybroker_broker_mongodb.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from contextlib import AbstractContextManager

    from pymongo import IndexModel
    from pymongo.collection import Collection

    from anybroker_broker_mongodb.urls import Target

    Documents = Collection[dict[str, Any]]

_CODEC: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_CLAMP
)


class Session:
    """What one process has of a connection, once a server has answered."""

    def __init__(self, collections: dict[str, Documents], *, streams: bool, alone: bool) -> None:
        self.collections = collections
        self.streams = streams
        self.alone = alone
        """It is one server, and no replica set or sharded cluster."""
        self.watches: dict[str, Watch] = {}


class Connection:
    """Thread-safe. Used after a fork, it connects anew."""

    def __init__(
        self,
        target: Target[Any],
        *,
        indexes: Mapping[str, Sequence[IndexModel]],
        fields: Mapping[str, AbstractSet[str]] | None = None,
    ) -> None:
        self._target = target
        self._indexes = indexes
        self._fields = fields or {}
        """By collection: all that documents have, where those of others must not be touched."""
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._users = {clients.borrow(target)}
        self.closed = False
        _connections.add(self)

    @property
    def is_final(self) -> bool:
        """Whether nothing takes back a write that was confirmed.

        A majority confirms from its journals on the disks, unless it is told not to (MongoDB, *Write Concern*). What
        fewer members have confirmed is rolled back when another one becomes primary, journal or not: so a journal is
        enough for a server alone only, and as long as no server has answered, it is not known to be one.
        """
        concern, session = self._target.write_concern, self._session
        if concern["w"] == "majority":
            return concern.get("j") is not False
        return bool(concern.get("j")) and session is not None and session.alone

    @property
    def durability(self) -> Durability:
        """What a write that was confirmed survives."""
        return Durability.POWER_CUT if self.is_final else Durability.PROCESS

    @property
    def streams(self) -> bool:
        """Whether those who wait are woken by a change stream; as long as no server has answered, not."""
        session = self._session
        return self._target.options.wake == "stream" if session is None else session.streams

    def translated(self) -> AbstractContextManager[None]:
        """Let what pymongo raises inside be an error of the contract."""
        return translated(self._target.address)

    def collection(self, name: str) -> Documents:
        """A collection of the database, by its name without the prefix; reads and writes go to the primary.

        Raises ``BrokerUnavailable`` when no server answers, or it was closed.
        """
        return self.session().collections[name]

    def elsewhere(self, name: str) -> Documents:
        """The same, read from where the URL's ``readPreference`` says: for figures, not for work."""
        preference = clients.client(self._target).read_preference
        return self.collection(name).with_options(read_preference=preference)

    def watch(self, name: str, pipeline: Sequence[dict[str, Any]]) -> Watch:
        """What wakes those who wait for changes of a collection."""
        session = self.session()
        with self._lock:
            if name not in session.watches:
                session.watches[name] = Watch(session.collections[name], pipeline, streams=session.streams)
            return session.watches[name]

    def session(self) -> Session:
        """What this process has of it. Raises as :meth:`collection` does."""
        session = self._session
        if session is None or self.closed:
            self._refuse_if_closed()
            opened = self._open()  # by each thread for itself: no one waits until a server has not answered the others
            with self._lock:
                self._refuse_if_closed()
                session = self._session = self._session or opened
        return session

    def close(self) -> None:
        """Free the connections, unless others use them too. Idempotent."""
        self.closed = True
        session, self._session = self._session, None
        if session is not None:
            for watch in session.watches.values():
                watch.close()
        while self._users:
            with suppress(KeyError):  # another thread closes it, too
                clients.give_back(self._target, self._users.pop())

    def _refuse_if_closed(self) -> None:
        if self.closed:
            raise BrokerUnavailable(f"{self._target.address} was closed")

    def _open(self) -> Session:
        """Ask the server what it is, and make the indexes, which does nothing where they are."""
        with self.translated():
            client = clients.client(self._target)
            hello = client.admin.command("hello")
            wake, alone = self._target.options.wake, "setName" not in hello and hello.get("msg") != "isdbgrid"
            database = client[self._target.database]
            collections = {}
            for name, indexes in self._indexes.items():
                collection = collections[name] = database.get_collection(
                    f"{self._target.options.prefix}{name}",
                    codec_options=_CODEC,
                    read_preference=ReadPreference.PRIMARY,
                    write_concern=WriteConcern(**self._target.write_concern),
                )
                self._refuse_foreign(collection, self._fields.get(name))
                if indexes:
                    collection.create_indexes(list(indexes))
                if wake == "stream" and alone:
                    collection.watch().close()  # a server alone refuses it
        return Session(collections, streams=wake == "stream" or (wake == "auto" and not alone), alone=alone)

    def _refuse_foreign(self, collection: Documents, fields: AbstractSet[str] | None) -> None:
        """A TTL index removes documents, also those of an application that has a collection of the same name."""
        if fields is None:
            return
        found = collection.find_one(projection={"body": False})
        if found is not None and not (found.keys() <= fields or found.keys() >= fields - {"body"}):
            raise ConfigurationError(
                f"{self._target.address}: the collection {collection.name!r} holds documents of something else; "
                "name another database, or give a prefix"
            )

    def begin_anew(self) -> None:
        """In a child that was forked. The lock may have been held by a thread that does not exist here."""
        self._lock = threading.Lock()
        self._session = None
        self._users = set() if self.closed else {clients.borrow(self._target)}


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for connection in list(_connections):
        connection.begin_anew()


os.register_at_fork(after_in_child=_after_fork_in_child)  # after that of the clients
