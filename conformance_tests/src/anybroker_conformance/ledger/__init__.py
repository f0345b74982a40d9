"""The suite's own proof: a ledger of brokers and backends that are wrong on purpose, each of which it must kill.

``python -m anybroker_conformance.ledger`` runs the law that each one breaks against it and prints the table.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anybroker_conformance.ledger.registry import Mutant

MODULES = (
    "losing",
    "settling",
    "waiting",
    "sharing",
    "by_key",
    "partly",
    "lasting",
    "in_line",
    "growing",
    "looking",
    "telling",
    "cut",
    "disconnected",
    "backends",
    "forgetting",
    "sleeping",
    "coordinating",
    "crowded",
)


def mutants() -> dict[str, Mutant]:
    """All wrong brokers and backends, by name."""
    from anybroker_conformance.ledger.registry import MUTANTS

    for module in MODULES:
        import_module(f"{__name__}.{module}")
    return MUTANTS
