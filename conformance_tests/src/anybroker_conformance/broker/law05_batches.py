"""Law 5, of batches in which stale and valid leases are mixed: each entry is judged for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from anybroker.capabilities import Guarantee
from anybroker_conformance.subject import LawBroken

if TYPE_CHECKING:
    from anybroker.broker import Delivery
    from anybroker_conformance.subject import Subject


class FencedInBatches:
    """Law 5: a stale entry beside valid ones, first, last and in between."""

    @pytest.mark.parametrize("verb", ["ack", "update", "extend"])
    def test_law05_fenced__stale_ones_among_valid_ones(self, subject: Subject, verb: str) -> None:
        stale_queue, valid_queue = subject.queue(), subject.queue()
        messages = [subject.message(stale_queue, b"original") for _ in range(3)]
        subject.broker.enqueue(messages)
        subject.broker.enqueue([subject.message(valid_queue) for _ in range(2)])
        stale = subject.lose(stale_queue, 3)
        if len({one.message.id for one in stale}) < 3:
            subject.untested("this machine was too slow: a lease had run out before all were taken")
        fresh = subject.take(stale_queue, 3)
        valid = subject.take(valid_queue, 2)
        batch = [stale[0], valid[0], stale[1], valid[1], stale[2]]
        answers = self.settle(subject, verb, batch)
        if answers[1::2] != [True, True]:
            raise LawBroken(f"{verb} of a valid lease in a batch answered False: {answers}", valid[0].message.id)
        if subject.capabilities.fencing is not Guarantee.EXACT:
            return
        if answers != [False, True, False, True, False]:
            raise LawBroken(f"{verb} of stale leases in a batch with valid ones answered {answers}", messages[0].id)
        kept = subject.broker.ack(fresh)
        if kept != [True] * 3:
            raise LawBroken(f"refused in a batch, {verb} has taken the leases of the holders: {kept}", messages[0].id)

    @staticmethod
    def settle(subject: Subject, verb: str, batch: list[Delivery]) -> list[bool]:
        """Call one verb for a whole batch."""
        if verb == "ack":
            return subject.broker.ack(batch)
        if verb == "extend":
            return subject.broker.extend(batch, lease=subject.long)
        return subject.broker.update([(one, msgspec.structs.replace(one.message, body=b"stale")) for one in batch])
