"""The wall clock of a process, shifted.

Run as a script, it shifts its own and then runs a module::

    python -P clock.py 3600 '["/path", ...]' package.module

It imports nothing but the standard library, so that whatever is imported afterwards finds the clock shifted.

What is shifted: ``time.time``, ``time_ns``, ``clock_gettime(CLOCK_REALTIME)``, the present moment of ``localtime``,
``gmtime``, ``ctime``, ``asctime`` and ``strftime``, and ``datetime.now``, ``utcnow`` and ``today``, also for who has
imported the classes before. What is not: monotonic clocks, and code in C that asks the operating system itself, such
as SQLite's ``now`` or the validity of a certificate.
"""

from __future__ import annotations

import calendar
import ctypes
import datetime
import gc
import json
import runpy
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

true_time = time.time
"""Seconds since 1970, not shifted."""


def shift(seconds: float) -> None:
    """Set the wall clock of this process forward, or back, for good."""
    _shift_time(seconds)
    _shift_datetime(datetime.timedelta(seconds=seconds))


def shown(_: object = None) -> dict[str, float]:
    """What each clock of this process shows, in seconds since 1970; and ``monotonic``, in seconds since whenever."""
    moment, day = datetime.datetime, datetime.datetime
    return {
        "time": time.time(),
        "time_ns": time.time_ns() / 1e9,
        "clock_gettime": time.clock_gettime(time.CLOCK_REALTIME),
        "localtime": time.mktime(time.localtime()),
        "strftime": time.mktime(time.strptime(time.strftime("%Y-%m-%d %H:%M:%S"), "%Y-%m-%d %H:%M:%S")),
        "now": moment.now().timestamp(),
        "now of UTC": moment.now(datetime.UTC).timestamp(),
        "utcnow": calendar.timegm(moment.utcnow().timetuple()),
        "today": day.today().timestamp(),
        "monotonic": time.monotonic(),
    }


def _shift_time(seconds: float) -> None:
    nanoseconds = round(seconds * 1e9)
    true_ns, gettime, gettime_ns = time.time_ns, time.clock_gettime, time.clock_gettime_ns
    realtime = time.CLOCK_REALTIME
    shifted: dict[str, Callable[..., Any]] = {
        "time": lambda: true_time() + seconds,
        "time_ns": lambda: true_ns() + nanoseconds,
        "clock_gettime": lambda clock: gettime(clock) + (seconds if clock == realtime else 0.0),
        "clock_gettime_ns": lambda clock: gettime_ns(clock) + (nanoseconds if clock == realtime else 0),
        **{name: _of_moment(getattr(time, name)) for name in ("localtime", "gmtime", "ctime")},
        "asctime": _of_tuple(time.asctime, 0),
        "strftime": _of_tuple(time.strftime, 1),
    }
    for name, function in shifted.items():
        setattr(time, name, function)


def _of_moment(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda moment=None: original(time.time() if moment is None else moment)


def _of_tuple(original: Callable[..., Any], position: int) -> Callable[..., Any]:
    """Of a function that takes the present moment when the argument at ``position`` is missing."""
    return lambda *given: original(*given, *([time.localtime()] if len(given) == position else []))


def _shift_datetime(by: datetime.timedelta) -> None:
    moment, day = datetime.datetime, datetime.date
    true_now = moment.now
    _replace(moment, "now", lambda kind, tz=None: _as(kind, true_now(tz) + by))
    _replace(moment, "utcnow", lambda kind: _as(kind, true_now(datetime.UTC).replace(tzinfo=None) + by))
    _replace(moment, "today", lambda kind: _as(kind, true_now() + by))
    _replace(day, "today", lambda kind: kind.fromordinal((true_now() + by).toordinal()))


def _as(kind: type[datetime.datetime], value: datetime.datetime) -> datetime.datetime:
    """The same moment, of a class derived from datetime if it was asked for."""
    if kind is datetime.datetime:
        return value
    return kind.combine(value.date(), value.timetz())


def _replace(kind: type, name: str, function: Callable[..., Any]) -> None:
    """Replace a class method, also of a class in C, which refuses it: every other way makes a second class.

    With a second ``datetime``, ``isinstance`` and the libraries in C that know the first one would go wrong.
    """
    try:
        setattr(kind, name, classmethod(function))
    except TypeError:
        [attributes] = gc.get_referents(kind.__dict__)
        attributes[name] = classmethod(function)
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))


if __name__ == "__main__":
    _, seconds, path, module = sys.argv
    sys.modules["anybroker_conformance.faults.clock"] = sys.modules[__name__]
    sys.path[:] = json.loads(path)
    if float(seconds):
        shift(float(seconds))
    runpy.run_module(module, run_name="__main__", alter_sys=True)
