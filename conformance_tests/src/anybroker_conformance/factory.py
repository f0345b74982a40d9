"""How a suite gets what it tests."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from anybroker.clock import Clock, SystemClock
from anybroker.errors import ConfigurationError

if TYPE_CHECKING:
    from anybroker_conformance.faults.server import Server

Adapter = TypeVar("Adapter")


class Factory(Generic[Adapter]):
    """What the author of an adapter says of it, and what each test is told."""

    url: ClassVar[str | None] = None
    """Where the adapter's service is; of a registered adapter. With a ``connect`` of its own, which then uses it, it is
    led through a proxy where a connection is cut."""
    server: ClassVar[Server | None] = None
    """How to stop, kill and start the server. Without it, the laws of a restart are reported as untested."""
    namespace: str = ""
    """Set for each test: a text that nothing else on the server has in its names and ids."""
    seed: int = 0
    """Set for each test: the number from which everything random follows."""

    def connect(self) -> Adapter:
        """Make a new object on the same messages or results as every other one of this test.

        Also called in other processes, on a new instance of the class.
        """
        if self.takes_clock():
            return self.connect_by(SystemClock())
        if self.url is None:
            raise ConfigurationError(f"{type(self).__name__} connects to nothing: set url, or define connect()")
        return self._load(self.url)

    def connect_by(self, clock: Clock) -> Adapter:
        """As :meth:`connect`, for an adapter whose time is that of ``clock``. Optional.

        The laws of long times are then proven by a clock that leaps, and the rest faster.
        """
        raise NotImplementedError

    @abstractmethod
    def objects_share(self) -> bool:
        """Whether two objects of this factory see the same; asked for adapters of one process alone."""

    @classmethod
    def takes_clock(cls) -> bool:
        """Whether :meth:`connect_by` is defined."""
        return cls.connect_by is not Factory.connect_by

    @classmethod
    def goes_by_url(cls) -> bool:
        """Whether the URL alone says how to connect."""
        return cls.connect is Factory.connect and not cls.takes_clock()

    @abstractmethod
    def _load(self, url: str) -> Adapter: ...
