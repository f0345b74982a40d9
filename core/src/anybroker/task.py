"""What travels: a task, its result and a dead letter, in wire format version 1 (docs/wire-format.md).

A broker carries the encoded form as an opaque body; a result backend stores the encoded :class:`TaskResult`.
"""

from __future__ import annotations

import os
import time
from datetime import datetime
from random import Random
from typing import Annotated, Any, Literal

import msgspec

from anybroker.backend import State

WIRE_VERSION = 1
NO_ARGS = msgspec.Raw(b"[]")
NO_KWARGS = msgspec.Raw(b"{}")
ABSENT = msgspec.Raw(b"")
"""Stands for a field that is not there (``Raw | None`` would not be raw)."""

MAX_NAME = 255
MAX_COUNT = 2**31 - 1

Aware = Annotated[datetime, msgspec.Meta(tz=True)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]

_random = Random()  # noqa: S311  ids are unique, not secret; of its own, since a task may seed the shared one
os.register_at_fork(after_in_child=_random.seed)


def new_id() -> str:
    """A UUID of version 7: unique, and sorted by time, which keeps the indexes of databases compact."""
    moment = (time.time_ns() // 1_000_000).to_bytes(6, "big").hex()
    chance = _random.getrandbits(72).to_bytes(9, "big").hex()
    return f"{moment[:8]}-{moment[8:]}-7{chance[:3]}-8{chance[3:6]}-{chance[6:]}"


class TaskErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """An exception as it travels: nothing in it is executable."""

    type: str
    """Qualified name of the exception's class."""
    message: str
    traceback: str = ""

    def brief(self) -> TaskErrorInfo:
        """As much of it as always fits beside a task."""
        return TaskErrorInfo(type=self.type[:60], message=self.message[:60])


class BackoffSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """How long to wait before each retry; see :mod:`anybroker.retry`."""

    kind: Literal["fixed", "exponential", "fibonacci"]
    base: NotNegative
    """Seconds."""
    factor: Annotated[float, msgspec.Meta(ge=1)] = 2.0
    cap: NotNegative = 3600.0
    """Seconds."""
    jitter: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """The share of each delay that is left to chance."""


class RetrySpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A retry policy that one message brings along, in place of the one declared with the task."""

    max: Count
    after: BackoffSpec


class Task(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One task to run. Fields that a later version adds survive a round trip (``Codec.rewrite``)."""

    v: int
    """Version of the wire format."""
    id: Annotated[str, msgspec.Meta(min_length=1)]
    task: Name
    """Registered name."""
    args: msgspec.Raw = NO_ARGS
    """Array of positional arguments, still encoded: only the task's signature knows their types."""
    kwargs: msgspec.Raw = NO_KWARGS
    """Map of keyword arguments, still encoded."""
    attempt: Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)] = 1
    """1 for the first run, one more with each retry, never smaller."""
    retries: Count = 0
    """Retries of the current step (of the whole task where it has no steps): what a retry policy counts."""
    sent_at: Aware | None = None
    expires: Aware | None = None
    """Not to be started after this moment."""
    timeout: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """Seconds for one run, in place of what is declared with the task."""
    retry: RetrySpec | None = None
    headers: dict[str, str] | None = None
    error: TaskErrorInfo | None = None
    """Why the last attempt failed."""
    step: Count = 0
    """Of a job: the step to run next, 0 for the first."""
    state: msgspec.Raw = ABSENT
    """Of a job: what the last step returned."""
    crashes: Count = 0
    """Deliveries of earlier versions of this message that ended without a settle: their worker died."""
    deferrals: Count = 0
    """How often it was put off because no worker knew its name."""


class TaskResult(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """The body of a stored result."""

    v: int
    id: str
    task: str
    state: State
    attempt: int
    value: msgspec.Raw = ABSENT
    """What the task returned; there when ``state`` is ``succeeded``."""
    error: TaskErrorInfo | None = None
    started_at: Aware | None = None
    finished_at: Aware | None = None


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """What a task given as ``on_failure`` gets: the task that failed for good."""

    id: str
    task: str
    queue: str
    attempt: int
    error: TaskErrorInfo
    headers: dict[str, str] = {}


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a message is in a dead-letter queue; the message's own body follows it, byte for byte."""

    v: int
    reason: str
    """``failed``, ``crashed``, ``unregistered``, ``arguments``, ``undecodable``, ``signature``, ``version`` or
    ``oversized``."""
    queue: str
    """Where the message came from and where a retry puts it back."""
    died_at: Aware
    error: TaskErrorInfo | None = None
    attempt: int | None = None
    ordering_key: str | None = None
    priority: int = 0
    truncated_from: int | None = None
    """Bytes that the body had, where the broker would not take all of it again."""

    def describe(self) -> dict[str, Any]:
        """As builtins, for tables and JSON."""
        described: dict[str, Any] = msgspec.to_builtins(self)
        return described
