import os

from anybroker_conformance import BrokerConformance
from anybroker_conformance.services import running

os.environ.setdefault("AWS_ACCESS_KEY_ID", "local")
os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "local")


class TestSqs(BrokerConformance):
    url = running()["sqs"].url
    server = None


class TestFifo(BrokerConformance):
    url = running()["sqs"].url + "&fifo=yes"
    server = None
