"""Which laws wait in real time even on a broker whose clock leaps: they are not among the fast tests."""

from __future__ import annotations

import pytest

IN_REAL_TIME = (
    "law04_expiry__a_waiting_consumer",
    "law08_eta__soon_after",
    "law11_prompt",
    "law12_concurrent",
    "law14_bounded",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.name == "test_references.py" and any(law in item.name for law in IN_REAL_TIME):
            item.add_marker(pytest.mark.slow)
