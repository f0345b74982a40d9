"""Every law of the contract, proven on this adapter."""

import tempfile

from anybroker_conformance import BrokerConformance


class TestFilesystemBroker(BrokerConformance):
    url = f"filesystem:///{tempfile.mkdtemp()}"
