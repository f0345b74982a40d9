"""What the author of a result backend subclasses: the factory, and all the laws."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from anybroker.clock import Clock, SystemClock
from anybroker.errors import ConfigurationError
from anybroker.loading import load_backend
from anybroker_conformance.backend.law01_durable import Durable
from anybroker_conformance.backend.law02_exact import Exact
from anybroker_conformance.backend.law03_one_writer import OneWriter
from anybroker_conformance.backend.law04_gone import Gone
from anybroker_conformance.backend.law05_ttl import Ttl
from anybroker_conformance.backend.law06_wait import Waits
from anybroker_conformance.backend.law07_join import Join
from anybroker_conformance.backend.law08_claim import Claim
from anybroker_conformance.backend.law09_isolation import Isolation
from anybroker_conformance.backend.law10_concurrent import Concurrent
from anybroker_conformance.backend.law11_reconnects import Reconnects
from anybroker_conformance.backend.law12_bounded import Bounded
from anybroker_conformance.backend.preflight import objects_share

if TYPE_CHECKING:
    from anybroker.backend import ResultBackend
    from anybroker_conformance.faults.server import Server


class BackendConformance(
    Durable, Exact, OneWriter, Gone, Ttl, Waits, Join, Claim, Isolation, Concurrent, Reconnects, Bounded
):
    """All laws of a result backend as tests.

    Subclass it, and say how to get the backend::

        class TestMine(BackendConformance):
            url = "mine://localhost"

    or, where the adapter is not registered, define :meth:`connect`, or :meth:`connect_by`.
    """

    url: ClassVar[str | None] = None
    """Where the backend is; of a registered adapter."""
    server: ClassVar[Server | None] = None
    """How to stop, kill and start the server. Without it, the laws of a restart are reported as untested."""
    namespace: str = ""
    """Set for each test: a text that nothing else on the server has in its ids."""

    seed: int = 0
    """Set for each test: the number from which everything random follows."""

    def connect(self) -> ResultBackend:
        """Make a new object on the same results as every other one of this test.

        Also called in other processes, on a new instance of the class.
        """
        if self.takes_clock():
            return self.connect_by(SystemClock())
        if self.url is None:
            raise ConfigurationError(f"{type(self).__name__} has no backend: set url, or define connect()")
        return load_backend(self.url)

    def connect_by(self, clock: Clock) -> ResultBackend:
        """As :meth:`connect`, for a backend whose time is that of ``clock``. Optional.

        The laws of long times are then proven by a clock that leaps, and the rest faster.
        """
        raise NotImplementedError

    def objects_share(self) -> bool:
        """Whether two objects of this factory see the same results; asked for backends of one process alone."""
        return objects_share(self)

    @classmethod
    def takes_clock(cls) -> bool:
        """Whether :meth:`connect_by` is defined."""
        return cls.connect_by is not BackendConformance.connect_by
