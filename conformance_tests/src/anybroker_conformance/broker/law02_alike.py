"""Law 2, of messages that are nearly the same: each comes back as itself."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from anybroker.broker import Message
from anybroker_conformance.subject import LawBroken

if TYPE_CHECKING:
    from anybroker_conformance.subject import Subject

COMMON = (100, 1024, 4096, 65_536, 262_144)
"""Bytes that two bodies have in common."""


class Alike:
    """Law 2: bodies and ids that a store could take for one another."""

    def test_law02_exact__bodies_that_begin_or_end_alike(self, subject: Subject) -> None:
        queue = subject.queue()
        bodies = [
            part
            for common in COMMON
            if common < subject.capabilities.max_body
            for same in (b"\x5a" * common,)
            for part in (same, same + b"a", same + b"b", b"a" + same, b"b" + same)
        ]
        came_back_as_themselves(subject, [subject.message(queue, body) for body in bodies])

    def test_law02_exact__ids_that_look_like_numbers(self, subject: Subject) -> None:
        queue = subject.queue()
        digits = f"{secrets.randbelow(10**15):015}"
        ids = [digits, f"0{digits}", f"00{digits}", f"-{digits}", f"+{digits}", f"{digits}.0", f"{digits}e0"]
        ids += [f"0x{digits}", f" {digits}", f"{digits} ", f"{digits}.", f"1e{digits}", f"{digits[:12]}-0"]
        came_back_as_themselves(subject, [Message(id_, queue, id_.encode()) for id_ in ids])


def came_back_as_themselves(subject: Subject, messages: list[Message]) -> None:
    """Every message of one queue is delivered as it was sent, each once."""
    for message in messages[: len(messages) // 2]:
        subject.broker.enqueue([message])
    subject.broker.enqueue(messages[len(messages) // 2 :])
    sent = {message.id: message for message in messages}
    for delivery in subject.take(messages[0].queue, len(sent)):
        wanted = sent.pop(delivery.message.id, None)
        if wanted is None:
            raise LawBroken(f"id {delivery.message.id!r} was delivered, and never sent or sent once", messages[0].id)
        if delivery.message != wanted:
            raise LawBroken("came back changed", wanted.id)
