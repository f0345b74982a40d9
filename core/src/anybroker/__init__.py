"""Background tasks on any broker: pick it with a URL, the code stays the same.

>>> from anybroker import App
>>> app = App("memory://")
>>> @app.task
... def add(a: int, b: int) -> int:
...     return a + b
>>> with app.worker(concurrency=1):
...     add.send(2, 3).get(timeout=10)
5

What an adapter implements is in :mod:`anybroker.broker` and :mod:`anybroker.backend`.
"""

from anybroker.app import App
from anybroker.backend import State
from anybroker.context import Context, current_context
from anybroker.errors import (
    AnybrokerError,
    ArgumentsError,
    BrokerUnavailable,
    ConfigurationError,
    DecodeError,
    LeaseLost,
    MessageTooLarge,
    ResultTimeout,
    SignatureError,
    TaskCancelled,
    TaskError,
    TaskExpired,
    TaskFailed,
    TaskTimeout,
    UnknownTask,
    Unsupported,
    WorkerLost,
)
from anybroker.handle import Handle
from anybroker.retry import Retry, exponential, fibonacci, fixed
from anybroker.sending import Signature
from anybroker.task import Failure

__version__ = "0.1.0"

__all__ = [
    "AnybrokerError",
    "App",
    "ArgumentsError",
    "BrokerUnavailable",
    "ConfigurationError",
    "Context",
    "DecodeError",
    "Failure",
    "Handle",
    "LeaseLost",
    "MessageTooLarge",
    "ResultTimeout",
    "Retry",
    "Signature",
    "SignatureError",
    "State",
    "TaskCancelled",
    "TaskError",
    "TaskExpired",
    "TaskFailed",
    "TaskTimeout",
    "UnknownTask",
    "Unsupported",
    "WorkerLost",
    "current_context",
    "exponential",
    "fibonacci",
    "fixed",
]
