"""Proves that a broker or a result backend keeps the contract of anybroker.

Subclass :class:`BrokerConformance` or :class:`BackendConformance` in a test file, set ``url``, and run pytest; or run
``anybroker conform URL``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anybroker_conformance.backend.suite import BackendConformance
    from anybroker_conformance.subject import LawBroken, Subject, Untested
    from anybroker_conformance.suite import BrokerConformance

__all__ = ["BackendConformance", "BrokerConformance", "LawBroken", "Subject", "Untested"]

_MODULES = {
    "BackendConformance": "backend.suite",
    "BrokerConformance": "suite",
    "LawBroken": "subject",
    "Subject": "subject",
    "Untested": "subject",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: a pytest run that tests no law, and the services' commands, need none of it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
