"""Redis as a result backend for anybroker, at the URLs of ``anybroker_broker_redis``."""

from anybroker_backend_redis.backend import RedisBackend

__all__ = ["RedisBackend"]
