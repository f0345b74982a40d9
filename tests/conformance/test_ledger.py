"""The suite kills the wrong brokers and backends of its ledger: in CI a third of them, drawn anew; in the soak all.

``make mutants`` does so twenty times.

A race, or a loop that wastes time, may hide while other tests keep the machine busy: who survives here is tried again.
"""

from __future__ import annotations

import math
import random
import secrets
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import pytest

from anybroker_conformance.laws import BACKEND_LAWS, BROKER_LAWS
from anybroker_conformance.ledger import mutants
from anybroker_conformance.ledger.runner import run_all, run_suite, selections

if TYPE_CHECKING:
    from anybroker_conformance.ledger.registry import Mutant


def test_every_law_has_three_mutants_or_more() -> None:
    laws = [f"broker {law.name}" for law in BROKER_LAWS] + [f"backend {law.name}" for law in BACKEND_LAWS]
    number = Counter(f"{mutant.kind} {mutant.law}" for mutant in mutants().values())
    assert {law: number[law] for law in laws if number[law] < 3} == {}
    assert sum(mutant.kind == "broker" for mutant in mutants().values()) >= 60
    assert sum(mutant.kind == "backend" for mutant in mutants().values()) >= 20


def drawn(share: int, seed: int) -> list[Mutant]:
    """One of so many mutants of each law, at random."""
    chance = random.Random(seed)
    groups = defaultdict(list)
    for mutant in mutants().values():
        groups[mutant.kind, mutant.law].append(mutant)
    return [one for group in groups.values() for one in chance.sample(group, math.ceil(len(group) / share))]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("share", [3, pytest.param(1, marks=pytest.mark.soak)], ids=["a third", "all"])
def test_every_mutant_is_killed_by_the_law_that_it_breaks(share: int) -> None:
    finished = run_all(selections(drawn(share, secrets.randbits(32))), 1, 1)
    hidden = [mutants()[name] for name, [run] in finished.items() if not run.failed]
    assert len(hidden) <= 3, [mutant.name for mutant in hidden]
    again = run_all(selections(hidden), 3, 2)
    survivors = [name for name, runs in again.items() if sum(bool(run.failed) for run in runs) < 2]
    assert survivors == []


@pytest.mark.slow
def test_a_server_that_dies_may_forget_acks_of_its_last_moment_where_that_is_declared() -> None:
    run = run_suite("ForgetsLastMoment", "the_server_is_restarted and KILL", 1)
    assert (run.passed, run.failed) == (1, ()), run.output
