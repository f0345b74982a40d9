"""The test file of the ledger: the suite, run on the mutant that the environment names, or on the reference."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from anybroker_conformance.backend.networked import BackendServer, TcpBackend
from anybroker_conformance.backend.suite import BackendConformance
from anybroker_conformance.faults.reference import TcpBroker
from anybroker_conformance.faults.reference.process import ReferenceServer
from anybroker_conformance.ledger import mutants
from anybroker_conformance.ledger.references import REFERENCES
from anybroker_conformance.suite import BrokerConformance

if TYPE_CHECKING:
    from anybroker.clock import Clock
    from anybroker_conformance.ledger.registry import Kind

VARIABLE = "ANYBROKER_MUTANT"

chosen = os.environ.get(VARIABLE, "broker")
mutant = mutants().get(chosen)
kind: Kind
make: Any
kind, make = REFERENCES[chosen] if mutant is None else (mutant.kind, mutant.make)

if isinstance(make, type) and issubclass(make, TcpBroker):

    class TestNetworkedMutant(BrokerConformance):
        """A broker of the ledger whose connections can be cut, and whose server can be killed."""

        server = ReferenceServer()
        url = server.url

        def connect(self) -> Any:
            """Make it; those of one test share their messages."""
            return make.from_url(self.url)

elif isinstance(make, type) and issubclass(make, TcpBackend):

    class TestNetworkedMutantBackend(BackendConformance):
        """A backend of the ledger whose connections can be cut, and whose server can be killed."""

        server = BackendServer()
        url = server.url

        def connect(self) -> Any:
            """Make it; those of one test share their results."""
            return make.from_url(self.url)

elif kind == "broker":

    class TestMutant(BrokerConformance):
        """A broker of the ledger."""

        def connect_by(self, clock: Clock) -> Any:
            """Make it; those of one test share their messages."""
            return make(name=self.namespace, clock=clock)

else:

    class TestMutantBackend(BackendConformance):
        """A backend of the ledger."""

        def connect_by(self, clock: Clock) -> Any:
            """Make it; those of one test share their results."""
            return make(name=self.namespace, clock=clock)
