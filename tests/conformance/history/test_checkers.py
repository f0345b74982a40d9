"""The checkers over histories written by hand: what is right passes, and each wrong one is seen for what it is."""

from __future__ import annotations

from itertools import count
from typing import Any

import msgspec
import pytest

from anybroker.capabilities import Capabilities, Durability, Guarantee, Lease, Ordering
from anybroker_conformance.history.calls import Call, Content, History, Item
from anybroker_conformance.history.checkers import check
from anybroker_conformance.history.timeline import timeline

EXACT = Capabilities(
    durability=Durability.SERVER,
    ordering=Ordering.FIFO_PER_KEY,
    priorities=(-9, 9),
    idempotent_enqueue=True,
    max_body=100,
    delay_precision=1,
    expiry_bound=1,
    wake_bound=1,
    wait_slack=1,
)


def content(id: str = "m", body: str = "old", **fields: Any) -> Content:
    return Content(id, fields.pop("queue", "q"), body, 3, fields.pop("eta", None), 0, None, **fields)


class Story:
    """Writes a history: calls of one second each, one after the other, unless ``at`` says when."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.now = 0.0
        self._numbers = count(1)

    def add(self, verb: Any, *items: Item, client: str = "A", at: float | None = None, **fields: Any) -> None:
        began = self.now if at is None else at
        ended = began + fields.pop("takes", 1.0)
        self.now = max(self.now, ended)
        fields = {"ended": ended, "ended_at": ended, "outcome": "ok", **fields}
        call = Call(
            number=next(self._numbers), process=1, thread="t", client=client, verb=verb,
            began=began, began_at=began, items=items, **fields,
        )  # fmt: skip
        self.calls.append(call)

    def enqueue(self, *contents: Content, **fields: Any) -> None:
        self.add("enqueue", *(Item(one) for one in contents or (content(),)), **fields)

    def acquire(self, token: str = "1", what: Content | None = None, *, lease: float = 10.0, **fields: Any) -> None:
        what = what or content()
        item = Item(what, token=token, delivery_count=fields.pop("counted", 1))
        self.add("acquire", item, queues=fields.pop("queues", ("q",)), lease=lease, **fields)

    def ack(self, token: str = "1", answer: bool | None = True, what: Content | None = None, **fields: Any) -> None:
        self.add("ack", Item(what or content(), token=token, answer=answer), **fields)

    def update(self, new: Content, token: str = "1", answer: bool | None = True, **fields: Any) -> None:
        old = fields.pop("old", content())
        self.add("update", Item(old, token=token, answer=answer, new=new), **fields)

    def extend(self, token: str = "1", answer: bool = True, *, lease: float = 10.0, **fields: Any) -> None:
        self.add("extend", Item(content(), token=token, answer=answer), lease=lease, **fields)

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def judged(
        self, capabilities: Capabilities = EXACT, *, drained: bool = True, deaths: tuple[float, ...] = ()
    ) -> list[str]:
        """The laws that are broken."""
        history = History(tuple(sorted(self.calls, key=lambda call: call.began)), deaths)
        return [found.law for found in check(history, capabilities, drained=drained)]


@pytest.fixture
def story() -> Story:
    return Story()


def declaring(**fields: Any) -> Capabilities:
    return msgspec.structs.replace(EXACT, **fields)


def test_right__one_delivery(story: Story) -> None:
    story.enqueue()
    story.acquire()
    story.ack()
    assert story.judged() == []


def test_right__an_expired_lease_and_a_stale_ack(story: Story) -> None:
    story.enqueue()
    story.acquire("1", lease=2)
    story.wait(5)
    story.acquire("2", client="B", counted=2)
    story.ack("1", answer=False)
    story.ack("2", client="B")
    assert story.judged() == []


def test_right__an_update_and_its_new_version(story: Story) -> None:
    new = content(body="new")
    story.enqueue()
    story.acquire()
    story.update(new)
    story.acquire("2", new)
    story.ack("2", what=new)
    assert story.judged() == []


def test_right__an_id_that_is_used_again_after_its_ack(story: Story) -> None:
    for token in ("1", "2"):
        story.enqueue()
        story.acquire(token)
        story.ack(token)
    assert story.judged() == []


def test_right__given_back_by_closing(story: Story) -> None:
    story.enqueue()
    story.acquire(lease=100)
    story.add("close")
    story.acquire("2", client="B", counted=2)
    story.ack("1", answer=False)
    story.ack("2", client="B")
    assert story.judged() == []


def test_right__an_ack_whose_end_nobody_saw_may_have_worked_or_not(story: Story) -> None:
    story.enqueue()
    story.acquire(lease=2)
    story.ack(answer=None, outcome="unknown", ended=None, ended_at=None)
    assert story.judged() == []
    story.wait(5)
    story.acquire("2", counted=2)
    story.ack("2")
    assert story.judged() == []


def test_right__an_enqueue_that_failed_stores_nothing(story: Story) -> None:
    story.enqueue(outcome="fail")
    assert story.judged() == []


def test_right__overlapping_acquires_took_it_one_after_the_other(story: Story) -> None:
    story.enqueue()
    story.acquire("1", lease=3, takes=6)
    story.acquire("2", client="B", at=5.0, takes=3, counted=2)
    story.ack("2", client="B")
    assert story.judged() == []


def test_lost__enqueued_and_never_seen(story: Story) -> None:
    story.enqueue(content("a"), content("b"))
    story.acquire("1", content("a"))
    story.ack("1", what=content("a"))
    assert story.judged() == ["durable"]
    assert story.judged(drained=False) == []


def test_lost__though_the_failed_call_said_that_it_was_stored(story: Story) -> None:
    story.enqueue(outcome="unknown", stored=("m",))
    assert story.judged() == ["durable"]


def test_lost__after_its_lease(story: Story) -> None:
    story.enqueue()
    story.acquire(lease=1)
    assert story.judged() == ["expiry"]


def test_lost__in_an_update(story: Story) -> None:
    story.enqueue()
    story.acquire()
    story.update(content(body="new"))
    assert story.judged() == ["update"]


def test_invented__nobody_enqueued_it(story: Story) -> None:
    story.acquire()
    assert story.judged() == ["durable"]


def test_invented__from_a_refused_enqueue(story: Story) -> None:
    story.enqueue(outcome="fail")
    story.acquire()
    assert story.judged(drained=False) == ["durable"]


def test_changed__a_body(story: Story) -> None:
    story.enqueue()
    story.acquire("1", content(body="mangled"))
    story.ack()
    assert story.judged() == ["exact"]


def test_leaked__into_another_queue(story: Story) -> None:
    story.enqueue()
    story.acquire(queues=("other",))
    story.ack()
    assert story.judged() == ["isolation"]


def test_not_final__delivered_after_its_ack(story: Story) -> None:
    story.enqueue()
    story.acquire(lease=2)
    story.ack()
    story.wait(5)
    story.acquire("2", counted=2)
    story.ack("2")
    assert "final" in story.judged()


@pytest.mark.parametrize(
    ("final", "before", "laws"),
    [(Guarantee.BEST_EFFORT, 0.5, []), (Guarantee.BEST_EFFORT, 1.5, ["final"]), (Guarantee.EXACT, 0.5, ["final"])],
)
def test_final__unless_the_server_died_just_then(
    story: Story, final: Guarantee, before: float, laws: list[str]
) -> None:
    story.enqueue()
    story.acquire(lease=2)
    story.ack()
    story.wait(before)
    death = story.now
    story.wait(5)
    story.acquire("2", counted=2)
    story.ack("2")
    assert story.judged(declaring(final=final), deaths=(death,)) == laws


def test_not_final__the_server_died_later(story: Story) -> None:
    story.enqueue()
    story.acquire(lease=2)
    story.ack()
    story.wait(5)
    story.acquire("2", counted=2)
    story.ack("2")
    story.wait(0.1)
    assert story.judged(declaring(final=Guarantee.BEST_EFFORT), deaths=(story.now,)) == ["final"]


def test_not_fenced__a_stale_ack_was_honoured(story: Story) -> None:
    story.enqueue()
    story.acquire("1", lease=2)
    story.wait(5)
    story.acquire("2", client="B", counted=2)
    story.ack("1")
    assert story.judged() == ["fenced"]
    assert story.judged(declaring(fencing=Guarantee.BEST_EFFORT)) == []


def test_not_fenced__a_stale_extend_was_honoured(story: Story) -> None:
    story.enqueue()
    story.acquire("1", lease=2)
    story.wait(5)
    story.acquire("2", client="B", counted=2)
    story.extend("1")
    story.ack("2", client="B")
    assert story.judged() == ["fenced"]


def test_not_fenced__settled_twice(story: Story) -> None:
    story.enqueue()
    story.acquire()
    story.ack()
    story.ack()
    assert story.judged() == ["fenced"]


def test_not_fenced__a_refused_update_wrote_all_the_same(story: Story) -> None:
    new = content(body="stale")
    story.enqueue()
    story.acquire("1", lease=2)
    story.wait(5)
    story.acquire("2", client="B", counted=2, lease=2)
    story.update(new, "1", answer=False)
    story.wait(5)
    story.acquire("3", new)
    story.ack("3", what=new)
    assert "fenced" in story.judged()


def test_not_whole__the_old_version_after_the_new(story: Story) -> None:
    new = content(body="new")
    story.enqueue()
    story.acquire("1", lease=2)
    story.update(new)
    story.wait(5)
    story.acquire("2", new)
    story.ack("2", what=new)
    story.acquire("3", counted=2)
    story.ack("3")
    assert "update" in story.judged()


def test_not_whole__both_versions_after_an_unknown_end(story: Story) -> None:
    new = content(body="new")
    story.enqueue()
    story.acquire("1", lease=2)
    story.update(new, answer=None, outcome="unknown")
    story.wait(5)
    story.acquire("2", new)
    story.ack("2", what=new)
    story.acquire("3", counted=2)
    story.ack("3")
    assert "update" in story.judged()
    assert story.judged(declaring(update=Guarantee.BEST_EFFORT, fencing=Guarantee.BEST_EFFORT)) == []


@pytest.mark.parametrize(("verb", "law"), [("ack", "final"), ("extend", "exclusive"), ("update", "update")])
def test_refused__although_the_lease_was_valid(story: Story, verb: str, law: str) -> None:
    story.enqueue()
    story.acquire(lease=100)
    if verb == "update":
        story.update(content(body="new"), answer=False)
    else:
        getattr(story, verb)(answer=False)
    story.ack()
    assert story.judged() == [law]


def test_refused__because_the_connection_was_lost(story: Story) -> None:
    by_connection = declaring(lease=Lease.CONNECTION)
    story.enqueue()
    story.acquire(lease=100)
    story.ack(answer=False)
    story.acquire("2", counted=2)
    story.ack("2")
    assert story.judged(by_connection) == ["final"]
    story.add("acquire", queues=("q",), outcome="unknown")
    assert story.judged(by_connection) == []


def test_refused__to_another_client(story: Story) -> None:
    story.enqueue()
    story.acquire(lease=100)
    story.ack(answer=False, client="B")
    story.ack()
    assert story.judged(declaring(lease=Lease.CONNECTION)) == []
    assert story.judged() == ["final"]


def test_not_exclusive__delivered_to_two(story: Story) -> None:
    story.enqueue()
    story.acquire("1", lease=10)
    story.acquire("2", client="B", counted=2)
    story.ack("2", client="B")
    assert story.judged() == ["exclusive"]
    assert story.judged(declaring(exclusive=Guarantee.BEST_EFFORT)) == []
    assert story.judged(declaring(lease=Lease.CONNECTION)) == []


def test_not_exclusive__although_it_was_extended(story: Story) -> None:
    story.enqueue()
    story.acquire("1", lease=3)
    story.extend("1", lease=30)
    story.wait(5)
    story.acquire("2", client="B", counted=2)
    story.ack("2", client="B")
    assert story.judged() == ["exclusive"]


def test_too_early(story: Story) -> None:
    early = content(eta=10.0)
    story.enqueue(early)
    story.acquire("1", early)
    story.ack("1", what=early)
    assert story.judged() == ["eta"]


def test_out_of_order(story: Story) -> None:
    first, second = content("a"), content("b")
    story.enqueue(first, second)
    story.acquire("1", second)
    story.acquire("2", first)
    story.ack("1", what=second)
    story.ack("2", what=first)
    assert story.judged() == ["order"]
    assert story.judged(declaring(ordering=Ordering.NONE)) == []


def test_priorities_turned_round(story: Story) -> None:
    low, high = content("low"), msgspec.structs.replace(content("high"), priority=5)
    story.enqueue(low, high)
    story.acquire("1", low)
    story.acquire("2", high)
    story.ack("1", what=low)
    story.ack("2", what=high)
    assert story.judged() == ["order"]


def test_two_of_one_key_at_once(story: Story) -> None:
    first, second = (msgspec.structs.replace(content(one), ordering_key="k") for one in "ab")
    story.enqueue(first, second)
    story.acquire("1", first)
    story.acquire("2", second)
    story.ack("1", what=first)
    story.ack("2", what=second)
    assert story.judged() == ["order"]


def test_counts_that_cannot_be(story: Story) -> None:
    story.enqueue()
    story.acquire(counted=0)
    story.ack()
    assert story.judged() == ["expiry"]
    assert story.judged(declaring(delivery_count=False)) == ["honest"]


def test_timeline__is_of_one_message_alone(story: Story) -> None:
    story.enqueue(content("a"), content("b"))
    story.acquire("1", content("a"), lease=2)
    story.wait(5)
    story.acquire("2", content("a"), client="B")
    story.ack("1", answer=False, what=content("a"))
    story.add("close")
    shown = timeline(History(tuple(story.calls)), "a")
    assert [line.split(" s  ", 1)[1].split()[0:2] for line in shown] == [
        ["A", "enqueue"],
        ["A", "acquire"],
        ["B", "acquire"],
        ["A", "ack,"],
        ["A", "close"],
    ]
    assert "-> False" in shown[3]
    assert not any("'b'" in line for line in shown)
