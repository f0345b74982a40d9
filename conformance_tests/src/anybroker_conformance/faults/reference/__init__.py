"""A networked broker that keeps every law: a small server and its adapter, for the tests of the faults themselves."""

from anybroker_conformance.faults.reference.client import TcpBroker

__all__ = ["TcpBroker"]
