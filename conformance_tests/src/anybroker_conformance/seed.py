"""The seed of a run decides every random test, also where Hypothesis would not ask for one."""

from __future__ import annotations

from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Let what Hypothesis draws in the block depend on the seed alone.

    In continuous integration it takes a fixed seed of its own (``derandomize``), and its own option for another is
    then without effect: a run there could not be replayed elsewhere. A test with a ``@seed`` of its own keeps that.
    """
    from hypothesis import core

    usual: Any = core.get_random_for_wrapped_test

    def from_seed(test: Any, wrapped_test: Any) -> Random:
        random = usual(test, wrapped_test)
        own = wrapped_test._hypothesis_internal_use_seed is not None  # noqa: SLF001
        return random if own else Random(seed)  # noqa: S311

    core.get_random_for_wrapped_test = from_seed
    try:
        yield
    finally:
        core.get_random_for_wrapped_test = usual
