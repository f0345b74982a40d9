"""What a failed law test says: the sentence, and the timeline of the one message that shows it."""

from __future__ import annotations

import linecache
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anybroker.loading import redact
from anybroker_conformance.hang import Hang
from anybroker_conformance.reports.report import Failure, Moment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType, TracebackType

    from anybroker_conformance.laws import Declaration, Law

_SUITE = Path(__file__).parent
_MACHINERY = ("_pytest", "pluggy", "hypothesis", "xdist", "pytest")
_SHOWN = 60
"""Calls of a timeline that are shown at most: the last ones."""
_FRAMES = 6


def explain(error: BaseException, subject: Any, *, test: str, replay: str) -> Failure:
    """The failure of a test that worked with a subject, or None if it did not get as far."""
    expected = isinstance(error, AssertionError | Hang) and not _in_adapter(error)
    about = None if subject is None else _about(error, subject)
    timeline, moments = ([], []) if about is None else _story(subject, about)
    return Failure(
        test=test,
        text=_sentence(error, subject) if expected else _unexpected(error),
        replay=replay,
        about=about,
        timeline=timeline,
        moments=moments,
        traceback=[] if expected else _traceback(error),
    )


def text_of(failure: Failure, law: Law, declaration: Declaration | None, seed: int) -> str:
    """All that a person needs to know about a failure."""
    head = [f"Law {law.number}, {law.name}: {law.text}."]
    if declaration is not None and declaration.text:
        head.append(f"Declared: {declaration.text}")
    head += ["", f"Broken: {failure.text}"]
    parts = ["\n".join(head)]
    if failure.traceback:
        parts.append("\n".join(failure.traceback))
    if failure.timeline:
        parts.append("\n".join([f"What happened to {failure.about}:", *(f"  {line}" for line in failure.timeline)]))
    parts.append(f"Seed {seed}; to replay: {failure.replay}")
    return "\n\n".join(parts)


def first_of(error: BaseException) -> BaseException:
    """The first of several errors; a broken law before all others."""
    while isinstance(error, BaseExceptionGroup):
        broken = [one for one in error.exceptions if isinstance(one, AssertionError)]
        error = broken[0] if broken else error.exceptions[0]
    return error


def _sentence(error: BaseException, subject: Any) -> str:
    text = redact(str(error).partition("\nassert ")[0].strip())
    if isinstance(error, Hang):
        text = "; ".join([text, *_open_calls(subject)])
    if not text:  # an assert without a sentence: its source says it
        frame, line = _frames(error.__traceback__)[-1]
        source = linecache.getline(frame.f_code.co_filename, line).strip()
        text = source or type(error).__name__
    notes = [note for note in getattr(error, "__notes__", ()) if "Falsifying" in note or "Draw" in note]
    return "\n".join([text, *notes])


def _unexpected(error: BaseException) -> str:
    text = redact(" ".join(str(error).split()))
    where = _adapter_frame(error)
    at = "" if where is None else f" in {_place(*where)}"
    return f"{type(error).__name__} was raised{at}" + (f": {text}" if text else "")


def _open_calls(subject: Any) -> list[str]:
    """The calls that have not returned, and the one that was interrupted."""
    with suppress(Exception):
        calls = [call for call in subject.history().calls if call.ended is None or _was_interrupted(call)]
        return [f"{call.verb} of {call.client} has not returned" for call in calls[-3:]]
    return []


def _was_interrupted(call: Any) -> bool:
    return call.error is not None and call.error.startswith(Hang.__name__)


# Which message it is about


def _about(error: BaseException, subject: Any) -> str | None:
    """The id that the error names; else the last one that something was done with."""
    named = getattr(error, "message_id", None)
    if isinstance(named, str):
        return named
    with suppress(Exception):  # an explanation that fails is not to hide what it explains
        prefix = re.escape(subject.namespace)
        found = re.search(rf"{prefix}\.[\w.-]*\w", str(error))
        if found:
            return found[0]
        return _last(subject)
    return None


def _last(subject: Any) -> str | None:
    if hasattr(subject, "timeline"):
        touched = [call.keys[-1] for call in subject.journal.calls() if call.keys]
    else:
        touched = [call.items[-1].id for call in subject.history().calls if call.items]
    return touched[-1] if touched else None


def _story(subject: Any, about: str) -> tuple[list[str], list[Moment]]:
    """The timeline in words and for drawing."""
    try:
        if hasattr(subject, "timeline"):
            return subject.timeline(about), _backend_moments(subject, about)
        return _broker_story(subject, about)
    except Exception as error:
        return [f"(its timeline cannot be shown: {type(error).__name__}: {error})"], []


def _broker_story(subject: Any, about: str) -> tuple[list[str], list[Moment]]:
    from anybroker_conformance.history import timeline

    found = timeline.moments(subject.history(), about)
    left_out = len(found) - _SHOWN
    found = found[-_SHOWN:]
    lines = timeline.lines(found)
    moments = [Moment(one.client, one.verb, redact(one.what), one.began, one.ended, one.held_until) for one in found]
    return [f"({left_out} calls before)", *lines] if left_out > 0 else lines, moments


def _backend_moments(subject: Any, about: str) -> list[Moment]:
    calls = [call for call in subject.journal.calls() if about in call.keys][-_SHOWN:]
    start = calls[0].began_at if calls else 0.0
    return [
        Moment(
            call.client,
            call.verb,
            redact("; ".join(call.said(about))),
            call.began_at - start,
            None if call.ended is None else call.began_at - start + (call.ended - call.began),
        )
        for call in calls
    ]


# Where an unexpected error came from


def _frames(traceback: TracebackType | None) -> list[tuple[FrameType, int]]:
    found = []
    while traceback is not None:
        found.append((traceback.tb_frame, traceback.tb_lineno))
        traceback = traceback.tb_next
    return found


def _in_adapter(error: BaseException) -> bool:
    """Whether an AssertionError is one of the adapter's own: of its code, called by the suite's."""
    frames = [frame for frame, _ in _frames(error.__traceback__)]
    if isinstance(error, Hang) or not frames:
        return False
    last = Path(frames[-1].f_code.co_filename)
    called = any(_is_recorder(frame) for frame in frames)
    return called and not last.is_relative_to(_SUITE) and not _is_machinery(frames[-1])


def _is_recorder(frame: FrameType) -> bool:
    path = Path(frame.f_code.co_filename)
    return path.name == "recorder.py" and path.is_relative_to(_SUITE)


def _is_machinery(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in _MACHINERY


def _adapter_frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    """What the adapter did, from where the suite called it."""
    frames = _frames(error.__traceback__)
    ours = [number for number, (frame, _) in enumerate(frames) if _is_recorder(frame)]
    for frame, line in frames[ours[-1] + 1 :] if ours else ():
        if not Path(frame.f_code.co_filename).is_relative_to(_SUITE) and not _is_machinery(frame):
            yield frame, line


def _adapter_frame(error: BaseException) -> tuple[FrameType, int] | None:
    """The adapter's own line: the first, for the last may be of a library that it uses."""
    return next(_adapter_frames(error), None)


def _traceback(error: BaseException) -> list[str]:
    frames = list(_adapter_frames(error))
    if not frames:
        frames = [one for one in _frames(error.__traceback__) if not _is_machinery(one[0])]
    lines = []
    middle = max(2, len(frames) - _FRAMES + 2)
    for frame, line in frames[:2] + frames[middle:]:
        source = linecache.getline(frame.f_code.co_filename, line).strip()
        lines += [f"  {_place(frame, line)}, in {frame.f_code.co_name}", *([f"    {source}"] if source else [])]
    lines.append(f"  {redact(' '.join(f'{type(error).__name__}: {error}'.split()))}")
    if error.__cause__ is not None:
        lines.append(f"  caused by {redact(' '.join(f'{type(error.__cause__).__name__}: {error.__cause__}'.split()))}")
    return lines


def _place(frame: FrameType, line: int) -> str:
    path = Path(frame.f_code.co_filename)
    with suppress(ValueError):
        path = path.relative_to(Path.cwd())
    return f"{path}:{line}"
