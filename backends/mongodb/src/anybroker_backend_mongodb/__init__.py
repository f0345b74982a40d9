"""The MongoDB result backend: ``mongodb://`` and ``mongodb+srv://``."""

from anybroker_backend_mongodb.backend import MongoBackend

__all__ = ["MongoBackend"]
