"""Redis as a broker for anybroker: ``redis://``, ``rediss://``, ``redis+unix://``, ``redis+sentinel://``, ``redis+cluster://``."""

from anybroker_broker_redis.broker import RedisBroker

__all__ = ["RedisBroker"]
