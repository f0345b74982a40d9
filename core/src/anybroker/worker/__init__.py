"""Running tasks: acquire, execute, settle.

One thread acquires (``worker``), threads and an event loop run functions (``executors``), one thread settles what they
did (``settler``), and one extends leases (``leases``). What happens to a task is decided in ``pipeline``.
"""

from anybroker.worker.worker import Worker, WorkerStats

__all__ = ["Worker", "WorkerStats"]
