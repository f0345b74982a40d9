"""Every error that anybroker raises, as one tree.

::

    AnybrokerError
    ├── ConfigurationError      what you wrote cannot work: URL, option, driver, declaration
    ├── BrokerUnavailable       the service cannot be reached now; the call may be repeated
    ├── MessageTooLarge         raised before anything is sent
    ├── Unsupported             an ability that this adapter does not declare
    ├── LeaseLost               another consumer may hold the message by now
    ├── DecodeError             a body that is not a task of a known version
    │   └── SignatureError      unsigned, or signed with an unknown key, or altered
    └── TaskError               what happens to tasks
        ├── ArgumentsError      a call that does not fit the task's signature (also a TypeError)
        ├── UnknownTask         no task of that name is registered (also a LookupError)
        ├── TaskFailed          raised by ``get``: the task raised, for good
        ├── TaskTimeout         the task ran longer than its ``timeout`` (also a TimeoutError)
        ├── TaskExpired         the task was not started before its ``expires``
        ├── TaskCancelled       the task was cancelled before it started
        ├── WorkerLost          the task took its worker process down again and again
        └── ResultTimeout       ``get`` waited long enough (also a TimeoutError)

Adapters translate the exceptions of their client library into these in exactly one place and keep the
cause. Credentials never appear in a message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection


class AnybrokerError(Exception):
    """The root of all errors that anybroker raises on purpose."""


class ConfigurationError(AnybrokerError, ValueError):
    """What was configured or declared cannot work. The message says what to do."""


class BrokerUnavailable(AnybrokerError, ConnectionError):
    """The service cannot be reached, or refuses for now. The same call may be repeated later.

    ``stored`` holds the ids of those messages of an ``enqueue`` that are known to be stored all the same.
    """

    def __init__(self, message: str, *, stored: Collection[str] = ()) -> None:
        super().__init__(message)
        self.stored: frozenset[str] = frozenset(stored)


class MessageTooLarge(AnybrokerError, ValueError):
    """A body exceeds what the broker declares as ``max_body``. Nothing was sent."""


class Unsupported(AnybrokerError, NotImplementedError):
    """An ability that the adapter does not declare was asked for (law 15)."""


class LeaseLost(AnybrokerError):
    """The lease of a message ran out while it was held (law 5)."""


class DecodeError(AnybrokerError, ValueError):
    """A body is not a task: not the wire format, or a version from the future."""


class SignatureError(DecodeError):
    """A body is not signed with a known key although signing is on, or it was altered."""


class TaskError(AnybrokerError):
    """Something happened to a task."""


class ArgumentsError(TaskError, TypeError):
    """The arguments do not fit the task's signature or its types."""


class UnknownTask(TaskError, LookupError):
    """No task of this name is registered."""


class TaskFailed(TaskError):
    """The task raised, and will not be tried again.

    ``type`` is the qualified name of the remote exception, ``remote_message`` its message and ``remote_traceback`` its
    formatted traceback.
    """

    def __init__(self, message: str, *, type: str = "", remote_message: str = "", remote_traceback: str = "") -> None:
        super().__init__(message)
        self.remote_message = remote_message
        self.type = type
        self.remote_traceback = remote_traceback

    def __str__(self) -> str:
        """The message, followed by the traceback as the worker saw it."""
        message = super().__str__()
        return f"{message}\n\n{self.remote_traceback.rstrip()}" if self.remote_traceback else message


class TaskTimeout(TaskError, TimeoutError):
    """The task ran longer than its ``timeout``."""


class TaskExpired(TaskError):
    """The task was not started before the moment given as ``expires``."""


class TaskCancelled(TaskError):
    """The task was cancelled before it started."""


class WorkerLost(TaskError):
    """The task's worker process died while it ran, ``max_deliveries`` times."""


class ResultTimeout(TaskError, TimeoutError):
    """The result was not there within the time that ``get`` was willing to wait."""
