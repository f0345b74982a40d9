"""What a declaration says about a task, in the form that senders and workers read."""

# ruff: noqa: TC004  its structs are never decoded, so their annotations may stay names

from __future__ import annotations

import inspect
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

import msgspec

from anybroker.arguments import Parameters
from anybroker.errors import ConfigurationError
from anybroker.retry import Retry, Seconds, seconds
from anybroker.task import MAX_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anybroker.sending import Hook

P = ParamSpec("P")
R = TypeVar("R")

Place = object
"""File and line, or what else is the same when the same lines are executed again."""


class Step(Generic[P, R]):
    """One function that a task or a job runs, with its retry policy and its time limit."""

    def __init__(self, function: Callable[P, Any], *, retry: Retry | None, timeout: Seconds | None, name: str) -> None:
        """``timeout``: seconds for one run, None: no limit.

        Raises ``ConfigurationError`` for parameters that cannot travel and for a limit that is not positive.
        """
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            message = f"{name} is a generator function, which would return without having run; make it a function"
            raise ConfigurationError(message)
        if inspect.isclass(function):
            message = f"{name} is a class; give a function, which may make and use an object of it"
            raise ConfigurationError(message)
        given: object = retry  # for those who do not run a type checker
        if given is not None and not isinstance(given, Retry):
            message = f"{name}: retry={given!r}; give Retry(max=...)"
            raise ConfigurationError(message)
        self.function = function
        self.name = name
        self.retry = retry
        self.timeout: float | None = check_timeout(timeout)
        self.is_async: bool = inspect.iscoroutinefunction(function)
        self.parameters: Parameters = Parameters(function, name)
        self.place: Place = _place(function)
        """Where its function is written, and what makes it another than those of the same lines."""
        _refuse_method(function, name)

    def __repr__(self) -> str:
        """Its name."""
        return f"<step {self.name}>"


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """A declared task. One that is not a job has one step."""

    name: str
    queue: str
    steps: tuple[Step[..., Any], ...]
    place: Place
    """Where it is declared: of two declarations of one name that differ in it, one is a mistake."""
    keep_results: bool
    results_ttl: float | None
    """Seconds; None: for ever."""
    on_success: tuple[Hook, ...] = ()
    on_failure: tuple[Hook, ...] = ()

    def agrees_with(self, other: Definition) -> bool:
        """Whether both are made by the same lines: of a module that is imported anew, or under two names.

        One may have further steps, since a job is declared step by step.
        """
        steps = zip(self.steps, other.steps, strict=False)
        return self.place == other.place and all(one.place == another.place for one, another in steps)

    @property
    def parameters(self) -> Parameters:
        """Of the whole task: those of its first step."""
        return self.steps[0].parameters

    @property
    def returns(self) -> Any:
        """The type of the whole task's result: that of its last step."""
        return self.steps[-1].parameters.returns


def task_name(function: Callable[..., Any]) -> str:
    """``module.function``; in a script that is run directly, the name under which a worker imports it."""
    if not hasattr(function, "__qualname__"):
        message = f"{function!r} has no name; give the task name=..., or wrap it into a function"
        raise ConfigurationError(message)
    module = function.__module__
    if module == "__main__":
        main = sys.modules["__main__"]
        spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        module = spec.name.removesuffix(".__main__") if spec else Path(file).stem if file else module
    return f"{module}.{function.__qualname__}"


def _place(function: Callable[..., Any], within: tuple[object, ...] = ()) -> Place:
    """File and line, and what tells a function from others that were made by the same lines.

    That is whatever text, number or function a factory, a decorator or its object has put into it.
    """
    written = inspect.unwrap(function, stop=lambda wrapper: not inspect.isfunction(wrapper))
    code = getattr(written, "__code__", None)
    if code is None:
        return written
    found: list[object] = [code.co_code, code.co_consts, code.co_names] if code.co_name == "<lambda>" else []
    for value in _held_by(written):
        if isinstance(value, str | bytes | int | float | None):
            found.append(value)
        elif inspect.isfunction(value) and value not in within:
            found.append(_place(value, (*within, value)))
    return (code.co_filename, code.co_firstlineno, *found)


def _held_by(function: Any) -> Iterator[object]:
    for cell in getattr(function, "__closure__", None) or ():
        with suppress(ValueError):  # empty yet: the function calls itself
            yield cell.cell_contents
    if inspect.ismethod(function):
        owner = function.__self__
        yield from (owner.__qualname__,) if inspect.isclass(owner) else getattr(owner, "__dict__", {}).values()


def check_name(name: str) -> str:
    """The name of a task as it is. Raises ``ConfigurationError`` where no worker would read it."""
    given: object = name  # for those who do not run a type checker
    if not isinstance(given, str) or not 0 < len(given) <= MAX_NAME:
        message = f"a task's name is a text of 1 to {MAX_NAME} characters, and {given!r:.100} is none"
        raise ConfigurationError(message)
    check_text(name)
    return name


def check_text(text: str) -> None:
    """Raises ``ConfigurationError`` for lone surrogates, which UTF-8 cannot carry."""
    try:
        text.encode()
    except UnicodeEncodeError:
        message = f"{text[:60]!r} is no valid Unicode"
        raise ConfigurationError(message) from None


def _refuse_method(function: Callable[..., Any], name: str) -> None:
    """A method that is taken from its class would need an object, and none travels."""
    owner = getattr(function, "__qualname__", "").rpartition(".")[0]
    first = next(iter(inspect.signature(function).parameters), "")
    if first in {"self", "cls"} and owner and not owner.endswith("<locals>"):
        message = f"{name} is a method without its object; give a function, or the method of an object"
        raise ConfigurationError(message)


def check_timeout(timeout: Seconds | None) -> float | None:
    """A time limit in seconds. Raises ``ConfigurationError`` unless it is positive."""
    limit = None if timeout is None else seconds(timeout)
    if limit is not None and limit <= 0:
        message = f"timeout={timeout}: give a positive number of seconds, or None for no limit"
        raise ConfigurationError(message)
    return limit
