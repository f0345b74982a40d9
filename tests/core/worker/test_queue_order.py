"""In which order a worker asks its queues."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anybroker import App, ConfigurationError
from anybroker.worker.queue_order import QueueOrder


@pytest.mark.parametrize("queues", ["a,b,c", " a , b,c,", ["a", "b", "c"], ("a", "b", "c")], ids=repr)
def test_strict_order_is_the_one_that_is_written(queues: str | list[str]) -> None:
    order = QueueOrder(queues)
    assert order.names == ("a", "b", "c")
    assert [order.next() for _ in range(50)] == [["a", "b", "c"]] * 50


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 9), min_size=1))
def test_every_queue_is_asked_each_time(weights: dict[str, int]) -> None:
    order = QueueOrder(",".join(f"{name}:{weight}" for name, weight in weights.items()))
    assert sorted(order.next()) == sorted(weights)


def test_a_queue_comes_first_in_proportion_to_its_weight() -> None:
    order = QueueOrder("mail:3,default:1,slow:1")
    first = Counter(order.next()[0] for _ in range(20_000))
    for name, share in {"mail": 3 / 5, "default": 1 / 5, "slow": 1 / 5}.items():
        assert first[name] / 20_000 == pytest.approx(share, abs=0.03)


def test_names_with_colons_and_any_characters() -> None:
    assert QueueOrder(["käse:eins", "b:c"]).names == ("käse:eins", "b:c")
    assert QueueOrder(["käse:2", "b:c:4"]).names == ("käse", "b:c")


@pytest.mark.parametrize("name", ["a,b", "tenant:42", "shop:mail", " blanks ", ":", ",", "x" * 80])
def test_a_worker_finds_every_name(name: str) -> None:
    app = App("memory://", default_queue=name)
    task = app.task(name="task")(lambda: None)
    for queues in (None, [f"{name}:1"]):
        handle = task.send()
        with app.worker(queues=queues, concurrency=1, grace=0):
            assert handle.get(timeout=30) is None
    assert QueueOrder([" blanks ", "b"]).names == (" blanks ", "b")


def test_weights_do_not_go_unnoticed() -> None:
    with pytest.raises(ConfigurationError, match="'mail:3,default:1'"):
        QueueOrder({"mail": 3, "default": 1})


@pytest.mark.parametrize("queues", ["", ",", [], "a,a", "a:1,a:2", "a:0", "a:x", "a:1,b", ["x" * 81]], ids=repr)
def test_what_cannot_work_is_refused(queues: str | list[str]) -> None:
    with pytest.raises(ConfigurationError):
        QueueOrder(queues)
