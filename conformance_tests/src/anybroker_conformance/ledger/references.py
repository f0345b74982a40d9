"""What is right, and must pass whenever what is wrong is killed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anybroker.memory import MemoryBackend, MemoryBroker
from anybroker_conformance.ledger.by_key import PerKey
from anybroker_conformance.ledger.telling import Telling

if TYPE_CHECKING:
    from anybroker_conformance.ledger.registry import Kind

REFERENCES: dict[str, tuple[Kind, Any]] = {
    "broker": ("broker", MemoryBroker),
    "broker of keys": ("broker", PerKey),
    "broker with an overview": ("broker", Telling),
    "backend": ("backend", MemoryBackend),
}
"""Kind and class, by name."""
