"""Which laws are run when: those that wait in real time are slow, those that need no network not for the networked."""

from __future__ import annotations

import pytest

IN_REAL_TIME = (
    "law04_expiry__a_waiting_consumer",
    "law08_eta__soon_after",
    "law11_prompt",
    "law12_concurrent",
    "law14_bounded",
)
"""Also on a broker whose clock leaps."""
NETWORKED = ("test_faults_reference.py", "test_backend_networked.py")
OF_THE_NETWORK = (
    *("law01_durable", "processes", "killed", "fork"),
    *("law12_concurrent", "law13_reconnects", "law14_bounded"),
    *("law10_concurrent", "law11_reconnects", "law12_bounded"),
)
"""What can go wrong only between a client and its server. The other laws the SQLite under it keeps, and shows."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.name == "test_references.py" and any(law in item.name for law in IN_REAL_TIME):
            item.add_marker(pytest.mark.slow)
        if item.path.name in NETWORKED and not any(law in item.name for law in OF_THE_NETWORK):
            item.add_marker(pytest.mark.soak)
