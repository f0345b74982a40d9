"""Keeps the long part of the laws for the soak."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import anybroker_broker_pubsub  # noqa: F401  before a test module loads gRPC, which forks then do not survive

if TYPE_CHECKING:
    from collections.abc import Sequence

OTHERWISE = {
    "TestPubSubBroker": (),
    "TestPubSubExactlyOnce": ("law03", "law05"),
    "TestPubSubOrdered": ("law07", "law10"),
}
"""Laws whose form changes with the kind of subscriptions; the others are proven on that kind by ``make soak``."""
LONG = {
    "test_law03_exclusive__a_long_lease_beside_short_ones",
    "test_law03_exclusive__every_combination_at_every_delivery",
    "test_law04_expiry__again_and_again",
    "test_law04_expiry__of_a_process_that_stands_still",
    "test_law05_fenced__a_process_that_was_stopped_past_its_lease",
    "test_law05_fenced__after_redelivery_to_another_object",
    "test_law05_fenced__after_several_redeliveries",
    "test_law06_final__a_later_delivery",
    "test_law06_final__batches_of_any_size",
    "test_law07_update__batches_of_any_size",
    "test_law07_update__killed_in_the_middle",
    "test_law08_eta__many_come_due_at_once",
    "test_law08_eta__wrong_clocks_of_others",
    "test_law11_prompt__across_processes",
    "test_law11_prompt__whatever_falls_due",
    "test_law12_concurrent__a_stale_settle_races_the_new_holder",
    "test_law12_concurrent__random_calls_are_answered_as_by_a_model",
    "test_law12_concurrent__random_work_of_several_objects",
    "test_law12_concurrent__several_processes",
    "test_law13_reconnects__a_waiting_acquire_is_cut[closed]",
    "test_law13_reconnects__cut_at_every_wire_boundary[ack]",
    "test_law13_reconnects__cut_at_every_wire_boundary[enqueue]",
    "test_law13_reconnects__cut_at_every_wire_boundary[extend]",
    "test_law13_reconnects__cut_at_every_wire_boundary[update]",
    "test_law13_reconnects__stalled_with_open_connections",
    "test_law13_reconnects__the_server_is_restarted[TERM]",
    "test_law14_bounded__memory_of_the_process",
}
"""Those that take the most time, with real leases and real processes, of which a shorter one proves the same law."""


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if "/pubsub/test_laws.py::" not in item.nodeid:
            continue
        otherwise = OTHERWISE[item.nodeid.split("::")[1]]
        alike = bool(otherwise) and not item.name.startswith(tuple(f"test_{law}" for law in otherwise))
        if alike or item.name in LONG:
            item.add_marker(pytest.mark.soak)
