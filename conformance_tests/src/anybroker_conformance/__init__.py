"""Proves that a broker or a result backend keeps the contract of anybroker.

Subclass :class:`BrokerConformance` or :class:`BackendConformance` in a test file, set ``url``, and run pytest; or run
``anybroker conform URL``.
"""

from anybroker_conformance.subject import LawBroken, Subject, Untested
from anybroker_conformance.suite import BrokerConformance

__all__ = ["BrokerConformance", "LawBroken", "Subject", "Untested"]
