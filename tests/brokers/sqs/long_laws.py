"""Tests of the laws that take long on SQS, whose leases and delays are whole seconds, and whose calls take their time.

They are run by ``make soak``; of every law others are run each time.
"""

from __future__ import annotations

LONG = frozenset(
    {
        "test_law01_durable__every_combination_alone_and_in_one_batch",
        "test_law01_durable__every_message_of_batches_of_all_sizes",
        "test_law01_durable__many_queues",
        "test_law01_durable__one_by_one_through_an_empty_queue",
        "test_law01_durable__producers_and_consumers_race",
        "test_law01_durable__through_a_restart_of_the_server[kill]",
        "test_law01_durable__through_a_restart_of_the_server[stop]",
        "test_law02_exact__bodies",
        "test_law02_exact__delivered_again",
        "test_law02_exact__every_message_of_a_large_batch_has_its_own_fields",
        "test_law02_exact__one_byte_too_many[40]",
        "test_law02_exact__texts",
        "test_law03_exclusive__a_long_lease_beside_short_ones",
        "test_law03_exclusive__as_long_as_it_is_extended",
        "test_law03_exclusive__every_combination_at_every_delivery",
        "test_law03_exclusive__thousands_once_each",
        "test_law03_exclusive__until_each_lease_ends",
        "test_law04_expiry__a_batch_that_was_acquired_at_once",
        "test_law04_expiry__a_new_version_is_counted_from_one",
        "test_law04_expiry__a_waiting_consumer_gets_it",
        "test_law04_expiry__again_and_again",
        "test_law04_expiry__an_extended_lease_ends_in_time",
        "test_law04_expiry__close_leaves_what_others_hold",
        "test_law04_expiry__each_lease_ends_in_time",
        "test_law04_expiry__given_back_many_times",
        "test_law04_expiry__many_at_once",
        "test_law04_expiry__of_a_process_that_stands_still",
        "test_law04_expiry__of_all_that_one_acquire_took",
        "test_law05_fenced__a_process_that_was_stopped_past_its_lease",
        "test_law05_fenced__a_valid_lease_is_honoured[1001]",
        "test_law05_fenced__after_redelivery",
        "test_law05_fenced__after_redelivery_to_another_object",
        "test_law05_fenced__after_several_redeliveries",
        "test_law05_fenced__each_of_a_batch_has_its_own_answer[short",
        "test_law05_fenced__each_of_a_batch_has_its_own_answer[update",
        "test_law05_fenced__one_by_one_in_any_order",
        "test_law05_fenced__stale_ones_among_valid_ones[update]",
        "test_law05_fenced__the_new_lease_keeps_its_length",
        "test_law05_fenced__threads_settle_at_once",
        "test_law06_final__a_later_delivery",
        "test_law06_final__batches_of_any_size",
        "test_law06_final__by_another_object",
        "test_law06_final__nobodys_close_brings_it_back",
        "test_law07_update__batches_of_any_size",
        "test_law07_update__killed_in_the_middle",
        "test_law07_update__the_id_stays_taken",
        "test_law08_eta__a_long_delay_waits_in_the_broker",
        "test_law08_eta__blocks_none_behind_it",
        "test_law08_eta__many_come_due_at_once",
        "test_law08_eta__wrong_clocks_of_others",
        "test_law09_isolation__every_queue_has_its_own",
        "test_law09_isolation__queues_in_order_of_preference",
        "test_law10_order__a_late_one_does_not_overtake",
        "test_law10_order__one_of_a_key_at_a_time",
        "test_law10_order__thousands",
        "test_law10_order__what_comes_back_keeps_its_place",
        "test_law11_prompt__across_processes",
        "test_law11_prompt__never_busy_loops",
        "test_law11_prompt__returns_within_the_wait",
        "test_law11_prompt__whatever_falls_due",
        "test_law11_prompt__whatever_wakes_it",
        "test_law12_concurrent__a_settle_races_the_next_delivery",
        "test_law12_concurrent__a_stale_settle_races_the_new_holder",
        "test_law12_concurrent__an_extend_races_a_settle",
        "test_law12_concurrent__batches_for_many_racing_threads",
        "test_law12_concurrent__fork_while_a_thread_waits",
        "test_law12_concurrent__fork_while_other_threads_work",
        "test_law12_concurrent__one_settle_wins",
        "test_law12_concurrent__parent_and_child_at_once",
        "test_law12_concurrent__random_calls_are_answered_as_by_a_model",
        "test_law12_concurrent__random_work_of_several_objects",
        "test_law12_concurrent__random_work_of_threads_on_one_object",
        "test_law12_concurrent__several_processes",
        "test_law12_concurrent__the_child_of_a_fork_makes_a_new_object",
        "test_law12_concurrent__the_same_id_from_two_threads",
        "test_law13_reconnects__a_cut_does_not_end_leases",
        "test_law13_reconnects__a_waiting_acquire_is_cut[reset]",
        "test_law13_reconnects__cut_at_every_wire_boundary[ack]",
        "test_law13_reconnects__cut_at_every_wire_boundary[acquire]",
        "test_law13_reconnects__cut_at_every_wire_boundary[enqueue]",
        "test_law13_reconnects__cut_at_every_wire_boundary[update]",
        "test_law13_reconnects__stalled_with_open_connections",
        "test_law13_reconnects__the_server_is_restarted[TERM]",
        "test_law14_bounded__memory_of_the_process",
        "test_law14_bounded__objects_that_were_closed",
        "test_law15_honest__repeating_a_whole_enqueue",
    }
)
"""What they are called, as pytest does."""

FIFO = ("_law06_", "_law07_", "_law08_", "_law10_")
"""Laws that a FIFO queue keeps in another way than a standard one; their short tests are run each time."""

FIFO_TOO = frozenset({"test_law13_reconnects__the_server_is_restarted[TERM]"})
"""A long one that is run each time on FIFO queues; on standard ones it is the restart after SIGKILL."""

MOTO = ("_law05_", "_law09_", "_law15_")
"""Laws whose short tests are run each time on moto, too: those of which servers have ideas of their own."""

NOT_ON_MOTO = frozenset({"test_law02_exact__bodies_of_new_versions"})
"""Beside the long ones."""

WHY_NOT_ON_MOTO = "moto takes one call at a time: with hundreds of messages a call takes longer than clients wait"
