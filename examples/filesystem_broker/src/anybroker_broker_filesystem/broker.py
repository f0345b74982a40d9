"""The filesystem broker: a directory for each queue, a file for each message, and a lock around every call.

The name of a file says what becomes of its message: its place in the line, until when it is held back, how often it
was delivered, and the token of its lease. To lease a message is to rename its file, and renaming is atomic: a process
that dies in the middle of a call leaves the message as it was before, or as it is afterwards.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import msgspec

from anybroker.broker import Broker, Delivery, Message
from anybroker.capabilities import Capabilities, Clock, Durability, Guarantee, Ordering
from anybroker.errors import BrokerUnavailable, ConfigurationError
from anybroker.loading import parse_url, read_options
from anybroker.validation import check_changes, check_messages

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

POLL = 0.02
"""Seconds between two looks at the directories while ``acquire`` waits."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode


class Options(msgspec.Struct, frozen=True):
    """Options of the URL."""

    max_body: int = 1024 * 1024


class Entry(NamedTuple):
    """What the name of a message's file says."""

    place: int
    """In the line of its queue; the smallest goes first."""
    due: int
    """Not delivered before: microseconds since 1970."""
    deliveries: int = 0
    token: str = "-"
    """Of the newest lease."""

    @classmethod
    def read(cls, name: str) -> Self:
        """The entry that a file name stands for."""
        place, due, deliveries, token = name.split("_")
        return cls(int(place), int(due), int(deliveries), token)

    def __str__(self) -> str:
        return f"{self.place:020}_{self.due}_{self.deliveries}_{self.token}"


class FilesystemBroker:
    """Keeps messages in a directory that any number of processes of one machine may use."""

    def __init__(self, directory: str | os.PathLike[str], *, max_body: int = Options().max_body) -> None:
        self._directory = Path(directory)
        self._name = secrets.token_hex(8)
        self._closed = False
        self.capabilities = Capabilities(
            durability=Durability.SERVER,
            update=Guarantee.BEST_EFFORT,
            ordering=Ordering.FIFO,
            clock=Clock.CLIENT,
            max_body=max_body,
            delay_precision=0.1,
            expiry_bound=0.1,
            wake_bound=0.1,
            wait_slack=0.1,
        )

    @classmethod
    def from_url(cls, url: str) -> Self:
        """``filesystem:///relative/path`` or ``filesystem:////absolute/path``, with ``?max_body=`` in bytes."""
        address = parse_url(url)
        if address.hosts or not address.path.strip("/"):
            raise ConfigurationError(f"{address} names no directory; write filesystem:///path/to/directory")
        return cls(address.path[1:], max_body=read_options(address, Options).max_body)

    def enqueue(self, messages: Sequence[Message]) -> None:
        """Store messages; an id that is there already is stored a second time."""
        check_messages(messages, self.capabilities)
        with self._locked():
            for message in messages:
                self._store(message)

    def acquire(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Lease due messages, looking for them every 20 ms for at most ``wait`` seconds."""
        deadline = time.monotonic() + wait
        while True:
            with self._locked():
                taken = self._take(queues, limit, lease)
            left = deadline - time.monotonic()
            if taken or left <= 0 or limit <= 0:
                return taken
            time.sleep(min(POLL, left))

    def ack(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """Remove messages; False where the lease had been lost."""
        with self._locked():
            return [self._remove(self._find(one)) for one in deliveries]

    def update(self, changes: Sequence[tuple[Delivery, Message]]) -> list[bool]:
        """Store the new version, then remove the old one; a death in between leaves both."""
        check_changes(changes, self.capabilities)
        answers = []
        with self._locked():
            for old, message in changes:
                path = self._find(old)
                if path is not None:
                    stays = message.queue == old.message.queue
                    self._store(message, Entry.read(path.name).place if stays else None)
                answers.append(self._remove(path))
        return answers

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> list[bool]:
        """Hold leases for ``lease`` seconds from now; False where one had been lost."""
        with self._locked():
            paths = [self._find(one) for one in deliveries]
            for path in filter(None, dict.fromkeys(paths)):
                path.rename(path.with_name(str(Entry.read(path.name)._replace(due=_in(lease)))))
        return [path is not None for path in paths]

    def close(self) -> None:
        """Give back what this object holds, unless the process is a fork of the one that took it."""
        if not self._closed:
            with self._locked():
                for path in self._directory.glob(f"*/*_{self._name}.{os.getpid()}.*"):
                    path.rename(path.with_name(str(Entry.read(path.name)._replace(due=0, token="-"))))
        self._closed = True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Let no other thread or process do anything meanwhile."""
        if self._closed:
            raise BrokerUnavailable(f"this broker of {self._directory} was closed")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with (self._directory / "lock").open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                try:
                    yield
                finally:  # closing would not do: a child that was forked meanwhile has the file open too
                    fcntl.flock(file, fcntl.LOCK_UN)
        except OSError as error:
            raise BrokerUnavailable(f"{error.filename or self._directory}: {error.strerror}") from error

    def _queue(self, name: str) -> Path:
        """The directory of a queue. A digest, since file systems fold cases and take no name of 80 characters."""
        return self._directory / sha256(name.encode()).hexdigest()

    def _store(self, message: Message, place: int | None = None) -> None:
        """Put a message at the end of its queue, unless it has its place already."""
        due = 0 if message.eta is None else max(0, (message.eta - EPOCH) // timedelta(microseconds=1))
        path = self._queue(message.queue) / str(Entry(self._next_place() if place is None else place, due))
        path.parent.mkdir(exist_ok=True)
        self._write(path, _encode(message))

    def _write(self, path: Path, content: bytes) -> None:
        """Write a file that is there as a whole or not at all."""
        unfinished = self._directory / "unfinished"
        unfinished.write_bytes(content)
        unfinished.rename(path)

    def _next_place(self) -> int:
        counter = self._directory / "places"
        place = int(counter.read_bytes()) + 1 if counter.exists() else 1
        self._write(counter, str(place).encode())
        return place

    def _take(self, queues: Sequence[str], limit: int, lease: float) -> list[Delivery]:
        now, until = _in(0), _in(lease)
        taken: list[Delivery] = []
        for directory in map(self._queue, dict.fromkeys(queues)):
            for entry in map(Entry.read, _names(directory)):
                if len(taken) < limit and entry.due <= now:
                    token = f"{self._name}.{os.getpid()}.{secrets.token_hex(8)}"
                    leased = Entry(entry.place, until, entry.deliveries + 1, token)
                    path = (directory / str(entry)).rename(directory / str(leased))
                    message = _decode(path.read_bytes())
                    taken.append(Delivery(message, token, leased.deliveries, EPOCH + timedelta(microseconds=until)))
        return taken

    def _find(self, delivery: Delivery) -> Path | None:
        """The file of a message, while the lease is its newest."""
        directory = self._queue(delivery.message.queue)
        return next((directory / name for name in _names(directory) if name.endswith(f"_{delivery.token}")), None)

    def _remove(self, path: Path | None) -> bool:
        if path is not None:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # other messages are in the queue
                path.parent.rmdir()
        return path is not None


def _names(directory: Path) -> list[str]:
    """The files of a queue in the order of the line."""
    return sorted(os.listdir(directory)) if directory.exists() else []  # noqa: PTH208  much faster than Path.iterdir


def _in(seconds: float) -> int:
    """So many seconds from now, in microseconds since 1970."""
    return time.time_ns() // 1000 + round(seconds * 1e6)


_: type[Broker] = FilesystemBroker
