"""What the author of an adapter subclasses: the factory, and all the laws."""

from __future__ import annotations

from anybroker.broker import Broker
from anybroker.loading import load_broker
from anybroker_conformance.broker.law01_combinations import Combinations
from anybroker_conformance.broker.law01_durable import Durable
from anybroker_conformance.broker.law02_alike import Alike
from anybroker_conformance.broker.law02_exact import Exact
from anybroker_conformance.broker.law03_exclusive import Exclusive
from anybroker_conformance.broker.law03_lengths import LeasesOfDifferentLengths
from anybroker_conformance.broker.law03_together import Together
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
from anybroker_conformance.broker.law11_missed import Missed
from anybroker_conformance.broker.law11_prompt import Prompt
from anybroker_conformance.broker.law12_concurrent import Concurrent
from anybroker_conformance.broker.law12_fork import Forks
from anybroker_conformance.broker.law13_cuts import Cuts
from anybroker_conformance.broker.law13_reconnects import Reconnects
from anybroker_conformance.broker.law14_bounded import Bounded
from anybroker_conformance.broker.law15_honest import Honest, Inspected
from anybroker_conformance.broker.law15_overview import Told
from anybroker_conformance.broker.random_calls import RandomCalls
from anybroker_conformance.factory import Factory
from anybroker_conformance.preflight import objects_share


class BrokerConformance(
    Durable,
    Combinations,
    Exact,
    Alike,
    Exclusive,
    LeasesOfDifferentLengths,
    Together,
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
    Missed,
    Concurrent,
    Forks,
    Cuts,
    Reconnects,
    Bounded,
    Honest,
    Inspected,
    Told,
    RandomCalls,
    Factory[Broker],
):
    """All laws of a broker as tests.

    Subclass it, and say how to get the broker::

        class TestMine(BrokerConformance):
            url = "mine://localhost"

    or, where the adapter is not registered, define :meth:`~anybroker_conformance.factory.Factory.connect`.
    """

    def objects_share(self) -> bool:
        """Whether two objects of this factory see the same messages; asked for brokers of one process alone."""
        return objects_share(self)

    def _load(self, url: str) -> Broker:
        return load_broker(url)
