"""Tests of the laws that take long on MongoDB and memcached; of each law shorter ones are run each time.

``make soak`` runs them. What is killed between two commands is in ``test_deaths.py``, at every one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

SUITES = ("::TestMongoBroker::", "::TestMongoBackend::", "::TestMemcacheBackend::")

LONG = frozenset(
    {
        # of a broker
        "test_law01_durable__every_message_of_batches_of_all_sizes",
        "test_law01_durable__one_by_one_through_an_empty_queue",
        "test_law01_durable__producers_and_consumers_race",
        "test_law01_durable__through_a_restart_of_the_server[stop]",
        "test_law02_exact__every_message_of_a_large_batch_has_its_own_fields",
        "test_law03_exclusive__every_combination_at_every_delivery",
        "test_law03_exclusive__thousands_once_each",
        "test_law04_expiry__again_and_again",
        "test_law05_fenced__a_valid_lease_is_honoured[1001]",
        "test_law06_final__batches_of_any_size",
        "test_law07_update__batches_of_any_size",
        "test_law07_update__killed_in_the_middle",
        "test_law08_eta__a_long_delay_waits_in_the_broker",
        "test_law08_eta__many_come_due_at_once",
        "test_law08_eta__wrong_clocks_of_others",
        "test_law09_isolation__every_queue_has_its_own",
        "test_law09_isolation__purge_and_remove_touch_no_other",
        "test_law10_order__thousands",
        "test_law11_prompt__across_processes",
        "test_law12_concurrent__a_stale_settle_races_the_new_holder",
        "test_law12_concurrent__random_calls_are_answered_as_by_a_model",
        "test_law12_concurrent__several_processes",
        "test_law13_reconnects__cut_at_every_wire_boundary[ack]",
        "test_law13_reconnects__cut_at_every_wire_boundary[acquire]",
        "test_law13_reconnects__cut_at_every_wire_boundary[enqueue]",
        "test_law13_reconnects__cut_at_every_wire_boundary[extend]",
        "test_law13_reconnects__stalled_with_open_connections",
        "test_law13_reconnects__the_server_is_restarted[KILL]",
        "test_law13_reconnects__the_server_is_restarted[TERM]",
        "test_law14_bounded__memory_of_the_process",
        # of a result backend
        "test_law01_durable__the_server_restarts[TERM]",
        "test_law03_one_writer__a_life_of_many_attempts",
        "test_law07_join__a_large_group",
        "test_law07_join__killed_in_the_middle",
        "test_law07_join__processes_race",
        "test_law08_claim__one_call_within_another",
        "test_law09_isolation__groups",
        "test_law10_concurrent__forks_while_threads_work",
        "test_law10_concurrent__one_call_within_another",
        "test_law10_concurrent__processes",
        "test_law11_reconnects__cut_within[forget]",
        "test_law11_reconnects__cut_within[release]",
        "test_law11_reconnects__cut_within[seal]",
        "test_law11_reconnects__the_server_restarts[KILL]",
        "test_law11_reconnects__the_server_restarts[TERM]",
        "test_law12_bounded__released_locks",
        "test_law12_bounded__threads_and_connections",
        "test_law12_bounded__waiting",
    }
)
"""What they are called, as pytest does."""


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Keep them for the soak; to be imported by a ``conftest.py``."""
    for item in items:
        if item.name in LONG and any(suite in item.nodeid for suite in SUITES):
            item.add_marker(pytest.mark.soak)
