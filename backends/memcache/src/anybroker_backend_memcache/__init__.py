"""The Memcached result backend: ``memcache://`` and ``memcache+unix://``."""

from anybroker_backend_memcache.backend import MemcacheBackend

__all__ = ["MemcacheBackend"]
