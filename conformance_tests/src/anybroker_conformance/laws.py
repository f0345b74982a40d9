"""The laws of the contract by number and name, and what a given adapter declares about each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from anybroker.capabilities import Capabilities, Durability, Guarantee, Lease, Ordering

if TYPE_CHECKING:
    from collections.abc import Callable

    from anybroker.capabilities import BackendCapabilities


class Law(msgspec.Struct, frozen=True):
    """One promise of the contract. Its tests are named ``test_law05_fenced__...``."""

    number: int
    name: str
    text: str


class Declaration(msgspec.Struct, frozen=True):
    """What an adapter declares about one law."""

    text: str
    """The declaration in a few words; empty where the law knows no weaker form."""
    weaker: bool = False
    """The law is proven in the weaker form that is declared."""
    refused: bool = False
    """The ability is not declared; what is proven is that it is refused."""


BROKER_LAWS = (
    Law(1, "durable", "After enqueue returns, the message is delivered at least once, through crashes"),
    Law(2, "exact", "Id, body and fields come back as they went in; one byte too many is refused before sending"),
    Law(3, "exclusive", "While a lease is valid nobody else gets the message"),
    Law(4, "expiry", "A message whose lease runs out or whose holder dies is available again, counted once more"),
    Law(5, "fenced", "A settle or extend with a lost lease changes nothing and says so"),
    Law(6, "final", "After ack returned True the message never comes back, and it occupies no storage"),
    Law(7, "update", "An update never loses the message, and after True only the new version exists"),
    Law(8, "eta", "No message is delivered before its eta; soon after it, it is; and it blocks none behind it"),
    Law(9, "isolation", "Queues do not leak into one another; any name of 1 to 80 unicode characters works"),
    Law(10, "order", "Order and priorities are as declared"),
    Law(11, "prompt", "A waiting acquire wakes when a message arrives, returns in time, and never busy-loops"),
    Law(12, "concurrent", "Any number of threads, processes and hosts; a fork after use is safe"),
    Law(13, "reconnects", "When the server goes and returns, calls raise BrokerUnavailable meanwhile, then work again"),
    Law(14, "bounded", "Memory, connections, queues, keys and threads do not grow with the messages processed"),
    Law(15, "honest", "What is declared is there, and what is not declared is refused, never ignored"),
)

BACKEND_LAWS = (
    Law(1, "durable", "What store accepted is read at once, by everybody, and survives what is declared"),
    Law(2, "exact", "Results come back as they went in; one byte too many is refused before sending"),
    Law(3, "one_writer", "A result is never overwritten by one of an earlier attempt, nor a final one by its own"),
    Law(4, "gone", "A forgotten or expired result never comes back"),
    Law(5, "ttl", "A ttl is kept within the declared precision"),
    Law(6, "wait", "A waiter wakes when a result is final, and returns in time"),
    Law(7, "join", "A group is complete when all its members have finished, exactly, however often they say so"),
    Law(8, "claim", "A lock has one holder, until it is released with its token or its ttl has passed"),
    Law(9, "isolation", "Ids, groups and locks do not leak into one another; any unicode text is an id"),
    Law(10, "concurrent", "Any number of threads, processes and hosts; a fork after use is safe"),
    Law(11, "reconnects", "When the server goes and returns, calls raise BrokerUnavailable meanwhile, then work again"),
    Law(12, "bounded", "Memory, connections and threads do not grow with the results that were processed"),
)


def declared(law: Law, capabilities: Capabilities | BackendCapabilities) -> Declaration:
    """What the adapter declares about a law."""
    if isinstance(capabilities, Capabilities):
        return _BROKER_DECLARATIONS.get(law.name, _nothing)(capabilities)
    return _BACKEND_DECLARATIONS.get(law.name, _nothing)(capabilities)


def _nothing(_: object) -> Declaration:
    return Declaration("")


def _durable(capabilities: Capabilities | BackendCapabilities) -> Declaration:
    durability = capabilities.durability
    return Declaration(f"durability: {durability.value}", weaker=durability is Durability.PROCESS)


def _size(capabilities: Capabilities | BackendCapabilities) -> Declaration:
    return Declaration(f"max_body: {capabilities.max_body:,} bytes")


def _graded(name: str, guarantee: Guarantee) -> Declaration:
    return Declaration(f"{name}: {guarantee.value}", weaker=guarantee is not Guarantee.EXACT)


def _expiry(capabilities: Capabilities) -> Declaration:
    timed = capabilities.lease is Lease.TIMED
    bound = f", expiry_bound: {capabilities.expiry_bound:g} s"
    if capabilities.transit:
        bound += f", transit: {capabilities.transit:g} s"
    count = "" if capabilities.delivery_count else ", deliveries are not counted"
    return Declaration(
        f"lease: {capabilities.lease.value}{bound}{count}", weaker=not timed or not capabilities.delivery_count
    )


def _order(capabilities: Capabilities) -> Declaration:
    bounds = capabilities.priorities
    priorities = f"priorities: {bounds[0]} to {bounds[1]}" if bounds else "priorities: refused"
    unordered = capabilities.ordering is Ordering.NONE
    weaker = capabilities.ordering is not Ordering.FIFO_PER_KEY or bounds is None
    return Declaration(
        f"ordering: {capabilities.ordering.value}, {priorities}", weaker=weaker, refused=unordered and bounds is None
    )


def _shared(capabilities: Capabilities | BackendCapabilities) -> Declaration:
    return Declaration("shared by processes" if capabilities.shared else "one process", weaker=not capabilities.shared)


def _honest(capabilities: Capabilities) -> Declaration:
    enqueue = "recognised" if capabilities.idempotent_enqueue else "stored again"
    inspect = "yes" if capabilities.inspect else "estimates" if capabilities.overview else "no"
    return Declaration(f"inspect: {inspect}, the same id twice: {enqueue}")


_BROKER_DECLARATIONS: dict[str, Callable[[Capabilities], Declaration]] = {
    "durable": _durable,
    "exact": _size,
    "exclusive": lambda declared: _graded("exclusive", declared.exclusive),
    "expiry": _expiry,
    "fenced": lambda declared: _graded("fencing", declared.fencing),
    "final": lambda declared: _graded("final", declared.final),
    "update": lambda declared: _graded("update", declared.update),
    "eta": lambda declared: Declaration(
        f"clock: {declared.clock.value}, delay_precision: {declared.delay_precision:g} s"
    ),
    "order": _order,
    "prompt": lambda declared: Declaration(
        f"wake_bound: {declared.wake_bound:g} s, wait_slack: {declared.wait_slack:g} s"
    ),
    "concurrent": _shared,
    "honest": _honest,
}
_BACKEND_DECLARATIONS: dict[str, Callable[[BackendCapabilities], Declaration]] = {
    "durable": _durable,
    "exact": _size,
    "ttl": lambda declared: Declaration(f"ttl_precision: {declared.ttl_precision:g} s"),
    "wait": lambda declared: Declaration(
        f"{'pushed' if declared.pushed else 'polled'}, wake_bound: {declared.wake_bound:g} s"
    ),
    "join": lambda declared: _graded("join", Guarantee.EXACT if declared.exact_join else Guarantee.BEST_EFFORT),
    "claim": lambda declared: _graded("claim", Guarantee.EXACT if declared.exact_claim else Guarantee.BEST_EFFORT),
    "concurrent": _shared,
}
