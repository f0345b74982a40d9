"""What the author of an adapter subclasses: the factory, and all the laws."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from anybroker.clock import Clock, SystemClock
from anybroker.errors import ConfigurationError
from anybroker.loading import load_broker
from anybroker_conformance.broker.law01_combinations import Combinations
from anybroker_conformance.broker.law01_durable import Durable
from anybroker_conformance.broker.law02_alike import Alike
from anybroker_conformance.broker.law02_exact import Exact
from anybroker_conformance.broker.law03_exclusive import Exclusive
from anybroker_conformance.broker.law03_lengths import LeasesOfDifferentLengths
from anybroker_conformance.broker.law04_expiry import Expiry
from anybroker_conformance.broker.law04_many import ExpiryOfMany
from anybroker_conformance.broker.law05_batches import FencedInBatches
from anybroker_conformance.broker.law05_fenced import Fenced
from anybroker_conformance.broker.law06_final import Final
from anybroker_conformance.broker.law07_update import AtomicUpdate
from anybroker_conformance.broker.law08_eta import NotBefore
from anybroker_conformance.broker.law09_isolation import Isolated
from anybroker_conformance.broker.law10_keys import InOrderPerKey
from anybroker_conformance.broker.law10_order import InOrder
from anybroker_conformance.broker.law11_prompt import Prompt
from anybroker_conformance.broker.law12_concurrent import Concurrent
from anybroker_conformance.broker.law12_fork import Forks
from anybroker_conformance.broker.law13_cuts import Cuts
from anybroker_conformance.broker.law13_reconnects import Reconnects
from anybroker_conformance.broker.law14_bounded import Bounded
from anybroker_conformance.broker.law15_honest import Honest, Inspected
from anybroker_conformance.broker.random_calls import RandomCalls
from anybroker_conformance.preflight import objects_share

if TYPE_CHECKING:
    from anybroker.broker import Broker
    from anybroker_conformance.faults.server import Server


class BrokerConformance(
    Durable,
    Combinations,
    Exact,
    Alike,
    Exclusive,
    LeasesOfDifferentLengths,
    Expiry,
    ExpiryOfMany,
    Fenced,
    FencedInBatches,
    Final,
    AtomicUpdate,
    NotBefore,
    Isolated,
    InOrder,
    InOrderPerKey,
    Prompt,
    Concurrent,
    Forks,
    Cuts,
    Reconnects,
    Bounded,
    Honest,
    Inspected,
    RandomCalls,
):
    """All laws of a broker as tests.

    Subclass it, and say how to get the broker::

        class TestMine(BrokerConformance):
            url = "mine://localhost"

    or, where the adapter is not registered, define :meth:`connect`, or :meth:`connect_by`.
    """

    url: ClassVar[str | None] = None
    """Where the broker is; of a registered adapter."""
    server: ClassVar[Server | None] = None
    """How to stop, kill and start the server. Without it, the laws of a restart are reported as untested."""
    namespace: str = ""
    """Set for each test: a text that nothing else on the server has in its name."""

    seed: int = 0
    """Set for each test: the number from which everything random follows."""

    def connect(self) -> Broker:
        """Make a new object on the same messages as every other one of this test.

        Also called in other processes, on a new instance of the class.
        """
        if self.takes_clock():
            return self.connect_by(SystemClock())
        if self.url is None:
            raise ConfigurationError(f"{type(self).__name__} has no broker: set url, or define connect()")
        return load_broker(self.url)

    def connect_by(self, clock: Clock) -> Broker:
        """As :meth:`connect`, for a broker whose time is that of ``clock``. Optional.

        The laws of long times are then proven by a clock that leaps, and the rest faster.
        """
        raise NotImplementedError

    def objects_share(self) -> bool:
        """Whether two objects of this factory see the same messages; asked for brokers of one process alone."""
        return objects_share(self)

    @classmethod
    def takes_clock(cls) -> bool:
        """Whether :meth:`connect_by` is defined."""
        return cls.connect_by is not BrokerConformance.connect_by
