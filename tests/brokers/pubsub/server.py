"""The Pub/Sub server of these tests."""

from __future__ import annotations

from tests.live import Url, service

pubsub = service("pubsub")


class OwnPrefix(Url):
    """The URL of a suite, in which every test has a prefix of its own.

    A process that a test kills takes what is due later in that test along, and nothing of another test.
    """

    def __get__(self, suite: object, kind: type) -> str:
        namespace = getattr(suite, "namespace", "")
        return super().__get__(suite, kind) + (f"&prefix={namespace}-" if namespace else "")
