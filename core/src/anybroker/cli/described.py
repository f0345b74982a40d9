"""Messages as people read them: decoded where they can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from anybroker.codec import decode_dead
from anybroker.errors import DecodeError
from anybroker.task import NO_ARGS, NO_KWARGS
from anybroker.values import decode_value, encode_value

if TYPE_CHECKING:
    from anybroker.app import App
    from anybroker.broker import Message
    from anybroker.codec import Format
    from anybroker.dead_letters import Letter
    from anybroker.task import Task


def describe_message(app: App, message: Message) -> dict[str, Any]:
    """What a message holds; ``problem`` says why it cannot be read."""
    described: dict[str, Any] = {"id": message.id, "queue": message.queue, "priority": message.priority}
    described["eta"] = message.eta
    described["ordering_key"] = message.ordering_key
    try:
        body = decode_dead(message.body)[1]  # in a dead-letter queue
    except DecodeError:
        body = message.body
    try:
        return described | describe_task(app.codec.decode(body), app.codec.payload_format(body))
    except DecodeError as error:
        return described | {"problem": str(error), "bytes": len(message.body)}


def describe_task(task: Task, format: Format) -> dict[str, Any]:
    """A task with its arguments."""
    return {
        "task": task.task,
        "args": _as_json(task.args, format),
        "kwargs": _as_json(task.kwargs, format),
        "attempt": task.attempt,
        "headers": task.headers or {},
        "sent_at": task.sent_at,
        "expires": task.expires,
        "step": task.step,
    }


def describe_letter(app: App, letter: Letter) -> dict[str, Any]:
    """A dead letter with its task, where that can be read."""
    described = {"id": letter.id, **letter.dead.describe(), "died_at": letter.dead.died_at}
    if letter.task is None:
        return described | {"bytes": len(letter.body)}
    return describe_task(letter.task, app.codec.payload_format(letter.body)) | described


def arguments(described: dict[str, Any]) -> str:
    """The arguments of a described task as they are written in a call, or as they are where they are none."""
    args, kwargs = (msgspec.json.decode(described[name]) for name in ("args", "kwargs"))
    shown = [*map(_text, args)] if isinstance(args, list) else [_text(args)] if args else []
    if isinstance(kwargs, dict):
        shown += [f"{name}={_text(value)}" for name, value in kwargs.items()]
    elif kwargs:
        shown.append(_text(kwargs))
    return ", ".join(shown)


def _as_json(raw: msgspec.Raw, format: Format) -> msgspec.Raw:
    if format == "json" or bytes(raw) in _LEFT_OUT:
        return raw
    try:
        return encode_value(decode_value(raw, Any, format), "json")
    except (TypeError, ValueError, RecursionError):  # MessagePack has types that JSON has not
        return encode_value("(no JSON)", "json")


_LEFT_OUT = (bytes(NO_ARGS), bytes(NO_KWARGS))


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
