"""What the exit codes of the commands mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anybroker.errors import (
    ArgumentsError,
    BrokerUnavailable,
    ConfigurationError,
    MessageTooLarge,
    ResultTimeout,
    UnknownTask,
    Unsupported,
)

if TYPE_CHECKING:
    from anybroker.errors import AnybrokerError

FAILED = 1
"""What was asked about failed: the task raised, there is no such letter, the doctor found a problem."""
USAGE = 2
"""The command, the configuration or the arguments of a task cannot work."""
UNAVAILABLE = 3
"""The broker or the result backend cannot be reached."""
TIMED_OUT = 4
"""What was waited for did not come in time."""

_CODES: tuple[tuple[int, tuple[type[AnybrokerError], ...]], ...] = (
    (USAGE, (ConfigurationError, ArgumentsError, MessageTooLarge, UnknownTask, Unsupported)),
    (UNAVAILABLE, (BrokerUnavailable,)),
    (TIMED_OUT, (ResultTimeout,)),
)


def exit_code(error: AnybrokerError) -> int:
    """The exit code of a command that ends with this error."""
    return next((code for code, kinds in _CODES if isinstance(error, kinds)), FAILED)
