"""The connection of one object: a client of pymongo for each process that uses it, made when first needed."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import MongoClient, ReadPreference, WriteConcern
from pymongo.driver_info import DriverInfo

from anybroker.capabilities import Durability
from anybroker.errors import BrokerUnavailable
from anybroker_broker_mongodb.translation import translated
from anybroker_broker_mongodb.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from pymongo import IndexModel
    from pymongo.collection import Collection

    from anybroker_broker_mongodb.urls import Target, Wake

_CODEC: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_CLAMP)

_inherited: list[MongoClient[dict[str, Any]]] = []
"""Clients of the parent process. They are of no use after a fork, and closing them would end the parent's sockets."""

OptionsT = TypeVar("OptionsT", bound=msgspec.Struct)


class Session:
    """What one process has of a connection."""

    def __init__(self, client: MongoClient[dict[str, Any]], *, streams: bool) -> None:
        self.process = os.getpid()
        self.client = client
        self.streams = streams
        self.collections: dict[str, Collection[dict[str, Any]]] = {}
        self.watches: dict[str, Watch] = {}


class Connection:
    """Collections of a database, each with its indexes. Thread-safe, and used after a fork it connects anew."""

    def __init__(self, target: Target[Any], *, wake: Wake, indexes: Mapping[str, Sequence[IndexModel]]) -> None:
        self._target = target
        self._wake = wake
        self._indexes = indexes
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._session: Session | None = None
        self.closed = False
        concern = {name: value for name, value in target.write_concern.items() if value is not None}
        self._write_concern = WriteConcern(**concern)

    @property
    def durability(self) -> Durability:
        """What a write that was confirmed survives.

        A majority confirms from its journal on the disk, and so does one server that is asked to (MongoDB, *Write
        Concern*); what a single member has confirmed otherwise may be in its memory only.
        """
        written = self._target.write_concern["w"] == "majority" or self._target.write_concern["j"]
        return Durability.POWER_CUT if written else Durability.PROCESS

    @property
    def streams(self) -> bool:
        """Whether those who wait are woken by a change stream; as long as no server has answered, not."""
        return self._wake == "stream" or (self._session is not None and self._session.streams)

    def translated(self) -> AbstractContextManager[None]:
        """Let what pymongo raises inside be an error of the contract."""
        return translated(self._target.address)

    def session(self) -> Session:
        """What this process has of it. Raises ``BrokerUnavailable`` when no server answers, or it was closed."""
        if self._process != os.getpid():
            self._after_fork()
        session = self._session
        if session is None or self.closed:
            with self._lock:
                if self.closed:
                    raise BrokerUnavailable(f"{self._target.address} was closed")
                session = self._session or self._open()
                self._session = session
        return session

    def collection(self, name: str) -> Collection[dict[str, Any]]:
        """A collection of the database, by its name without the prefix; reads and writes go to the primary."""
        return self.session().collections[name]

    def elsewhere(self, name: str) -> Collection[dict[str, Any]]:
        """The same, read from where the URL's ``readPreference`` says: for figures, not for work."""
        collection = self.collection(name)
        preference = self.session().client.read_preference
        return collection.with_options(read_preference=preference)

    def watch(self, name: str, pipeline: Sequence[dict[str, Any]]) -> Watch:
        """What wakes those who wait for changes of a collection."""
        session = self.session()
        if name not in session.watches:
            with self._lock:
                fresh = Watch(session.collections[name], pipeline, streams=session.streams)
                session.watches.setdefault(name, fresh)
        return session.watches[name]

    def close(self) -> None:
        """Free the connections of this process. Idempotent."""
        self.closed = True
        session, self._session = self._session, None
        if session is not None and session.process == os.getpid():
            for watch in session.watches.values():
                watch.close()
            session.client.close()

    def _open(self) -> Session:
        with self.translated():
            client: MongoClient[dict[str, Any]] = MongoClient(
                self._target.url,
                connect=False,
                driver=DriverInfo("anybroker"),
                **self._target.client_options,
            )
            try:
                return self._prepared(client)
            except BaseException:
                client.close()
                raise

    def _prepared(self, client: MongoClient[dict[str, Any]]) -> Session:
        """Ask the server what it is, and make the indexes, which does nothing where they are."""
        hello = client.admin.command("hello")
        has_streams = "setName" in hello or hello.get("msg") == "isdbgrid"
        session = Session(client, streams=self._wake == "stream" or (self._wake == "auto" and has_streams))
        database = client[self._target.database]
        for name, indexes in self._indexes.items():
            collection = database.get_collection(
                f"{self._target.options.prefix}{name}",  # type: ignore[attr-defined]  # every kind of options has one
                codec_options=_CODEC,
                read_preference=ReadPreference.PRIMARY,
                write_concern=self._write_concern,
            )
            if indexes:
                collection.create_indexes(indexes)
            session.collections[name] = collection
        return session

    def _after_fork(self) -> None:
        """Begin anew in a child. A lock may have been held by a thread that does not exist here."""
        if self._session is not None:
            _inherited.append(self._session.client)
        self._lock = threading.Lock()
        self._session = None
        self._process = os.getpid()
