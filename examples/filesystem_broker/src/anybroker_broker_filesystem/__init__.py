"""A broker for anybroker that needs nothing but a directory: ``filesystem:///path``."""

from anybroker_broker_filesystem.broker import FilesystemBroker

__all__ = ["FilesystemBroker"]
