"""What the author of a result backend subclasses: the factory, and all the laws."""

from __future__ import annotations

from anybroker.backend import ResultBackend
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
from anybroker_conformance.factory import Factory


class BackendConformance(
    Durable,
    Exact,
    OneWriter,
    Gone,
    Ttl,
    Waits,
    Join,
    Claim,
    Isolation,
    Concurrent,
    Reconnects,
    Bounded,
    Factory[ResultBackend],
):
    """All laws of a result backend as tests.

    Subclass it, and say how to get the backend::

        class TestMine(BackendConformance):
            url = "mine://localhost"

    or, where the adapter is not registered, define :meth:`~anybroker_conformance.factory.Factory.connect`.
    """

    def objects_share(self) -> bool:
        """Whether two objects of this factory see the same results; asked for backends of one process alone."""
        return objects_share(self)

    def _load(self, url: str) -> ResultBackend:
        return load_backend(url)
