"""Exceptions as they travel, and as a log line shows them."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from anybroker.retry import Retry
from anybroker.task import TaskErrorInfo

if TYPE_CHECKING:
    from types import TracebackType

MAX_MESSAGE = 4_096
MAX_TRACEBACK = 16_384
"""Characters of an error that travel; of a traceback its end."""
_RUNNER = "anybroker.worker.runner"


def error_info(error: BaseException) -> TaskErrorInfo:
    """What travels of an exception."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        trace = _own(error.__traceback__)
        lines = "".join(traceback.format_exception(kind, error, trace)) if trace else ""
    except Exception:  # an exception whose own __str__ raises
        lines = ""
    return TaskErrorInfo(type=name, message=_text(error)[:MAX_MESSAGE], traceback=_clean(lines[-MAX_TRACEBACK:]))


def brief(error: BaseException) -> str:
    """One line."""
    first_line = next(iter(_text(error).splitlines()), "")
    return f"{type(error).__name__}: {first_line[:200]}".rstrip(": ")


def _own(trace: TracebackType | None) -> TracebackType | None:
    """A traceback without the worker's frames, which come first."""
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_globals.get("__name__") == _RUNNER:
        trace = trace.tb_next
    return trace


def _text(error: BaseException) -> str:
    try:
        return _clean(repr(error) if isinstance(error, Retry) else str(error))
    except Exception:  # an exception whose own __str__ raises
        return "(its message cannot be shown)"


def _clean(text: str) -> str:
    """Without lone surrogates, which UTF-8 cannot carry."""
    return text.encode("utf-8", "replace").decode()
