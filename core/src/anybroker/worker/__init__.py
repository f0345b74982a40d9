"""Running tasks: acquire, execute, settle.

One thread acquires (:mod:`~anybroker.worker.worker`), threads and an event loop run functions
(:mod:`~anybroker.worker.executors`), one thread settles what they did (:mod:`~anybroker.worker.settler`), and one extends
leases (:mod:`~anybroker.worker.leases`). What happens to a task is decided in :mod:`~anybroker.worker.pipeline`.
"""

from anybroker.worker.worker import Worker, WorkerStats

__all__ = ["Worker", "WorkerStats"]
