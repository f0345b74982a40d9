"""Tasks of every shape, for Hypothesis."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from anybroker.task import MAX_COUNT, MAX_NAME, BackoffSpec, RetrySpec, Task, TaskErrorInfo
from anybroker.values import encode_value

if TYPE_CHECKING:
    import msgspec

    from anybroker.codec import Format

TEXT = st.text(max_size=20)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
"""What both formats can say without types."""
COUNTS = st.integers(0, MAX_COUNT)
MOMENTS = st.datetimes(
    datetime(1970, 1, 2),  # noqa: DTZ001  the strategy adds the zone
    datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-11))]),
)
ERRORS = st.builds(TaskErrorInfo, type=TEXT, message=TEXT, traceback=TEXT)
BACKOFFS = st.builds(
    BackoffSpec,
    kind=st.sampled_from(["fixed", "exponential", "fibonacci"]),
    base=st.floats(0, 1e9),
    factor=st.floats(1, 1e9),
    cap=st.floats(0, 1e9),
    jitter=st.floats(0, 1),
)


def tasks(format: Format, **fixed: Any) -> st.SearchStrategy[Task]:
    """Tasks whose arguments are written in ``format``."""

    def raw(values: st.SearchStrategy[Any]) -> st.SearchStrategy[msgspec.Raw]:
        return values.map(lambda value: encode_value(value, format))

    fields: dict[str, st.SearchStrategy[Any]] = {
        "v": st.just(1),
        "id": st.text(min_size=1, max_size=40),
        "task": st.text(min_size=1, max_size=MAX_NAME),
        "args": raw(st.lists(PLAIN, max_size=3)),
        "kwargs": raw(st.dictionaries(TEXT, PLAIN, max_size=3)),
        "attempt": st.integers(1, MAX_COUNT),
        "retries": COUNTS,
        "sent_at": st.none() | MOMENTS,
        "expires": st.none() | MOMENTS,
        "timeout": st.none() | st.floats(0, 1e9, exclude_min=True),
        "retry": st.none() | st.builds(RetrySpec, max=COUNTS, after=BACKOFFS),
        "headers": st.none() | st.dictionaries(TEXT, TEXT, max_size=3),
        "error": st.none() | ERRORS,
        "step": COUNTS,
        "state": raw(PLAIN),
        "crashes": COUNTS,
        "deferrals": COUNTS,
    }
    return st.builds(Task, **{**fields, **{name: st.just(value) for name, value in fixed.items()}})
