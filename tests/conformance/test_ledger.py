"""The suite kills every wrong broker and backend of its ledger, once each; ``make mutants`` does so twenty times."""

from __future__ import annotations

from collections import Counter

import pytest

from anybroker_conformance.laws import BACKEND_LAWS, BROKER_LAWS
from anybroker_conformance.ledger import mutants
from anybroker_conformance.ledger.runner import run_all


def test_every_law_has_three_mutants_or_more() -> None:
    laws = [f"broker {law.name}" for law in BROKER_LAWS] + [f"backend {law.name}" for law in BACKEND_LAWS]
    number = Counter(f"{mutant.kind} {mutant.law}" for mutant in mutants().values())
    assert {law: number[law] for law in laws if number[law] < 3} == {}
    assert sum(mutant.kind == "broker" for mutant in mutants().values()) >= 60
    assert sum(mutant.kind == "backend" for mutant in mutants().values()) >= 20


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_mutant_is_killed_by_the_law_that_it_breaks() -> None:
    survivors = [verdict.mutant.name for verdict in run_all(list(mutants().values()), 1, 1) if not verdict.kills]
    assert survivors == []
