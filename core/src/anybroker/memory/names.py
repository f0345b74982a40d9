"""``memory://name``: one store by name within the process."""

from __future__ import annotations

import weakref
from typing import Generic, TypeVar

import msgspec

from anybroker.errors import ConfigurationError
from anybroker.loading import parse_url, read_options
from anybroker.memory.guard import Guarded

StoreT = TypeVar("StoreT")
MAX_BODY = 16 * 1024 * 1024


class MemoryOptions(msgspec.Struct, frozen=True):
    """Options of a ``memory://`` URL."""

    max_body: int = MAX_BODY
    """Bytes."""


class Names(Guarded, Generic[StoreT]):
    """Stores by name, each for as long as somebody uses it."""

    def __init__(self) -> None:
        super().__init__()
        self._stores: weakref.WeakValueDictionary[str, StoreT] = weakref.WeakValueDictionary()

    def share(self, name: str, store: StoreT) -> StoreT:
        """The store of this name, which becomes ``store`` if there is none; ``store`` itself without a name."""
        if not name:
            return store
        with self.changed:
            return self._stores.setdefault(name, store)


def read_memory_url(url: str) -> tuple[str, MemoryOptions]:
    """The name, perhaps empty, and the options. Raises ``ConfigurationError``."""
    address = parse_url(url)
    name = address.hosts[0][0] if address.hosts else ""
    if address.scheme != "memory" or address.path.strip("/"):
        raise ConfigurationError(f"write memory:// or memory://name, not {address.scheme}://{name}{address.path}")
    return name, read_options(address, MemoryOptions)
