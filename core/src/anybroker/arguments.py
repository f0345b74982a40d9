"""The arguments of a task: bound and checked where it is sent, converted where it runs."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from anybroker.errors import ArgumentsError, ConfigurationError
from anybroker.task import NO_KWARGS
from anybroker.values import Fidelity, check_type, convert, decode_value, decoder, encode_exactly, fidelity, is_same

if TYPE_CHECKING:
    from anybroker.codec import Format
    from anybroker.task import Task

_Bound = tuple[Sequence[Any], Mapping[str, Any]]
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NO_KWARGS = {"json": NO_KWARGS, "msgpack": msgspec.Raw(b"\x80")}
_NOTHING = frozenset({b"[]", b"{}", b"null", b"\x90", b"\x80", b"\xc0"})
"""No arguments, as every language writes it."""
_Unset = msgspec.UnsetType


class Parameters:
    """The parameters of one task function: how its arguments are checked, encoded and decoded."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        """Raises ``ConfigurationError`` for a parameter whose type cannot travel, where it is known already."""
        self._function = function
        self._name = name
        try:
            self._signature = inspect.signature(function)
        except (TypeError, ValueError) as error:
            message = f"{name}: {function!r} has no signature that could be read; wrap it into a function of your own"
            raise ConfigurationError(message) from error
        parameters = list(self._signature.parameters.values())
        self._positional = [p for p in parameters if p.kind in _POSITIONAL]
        self._required = sum(p.default is p.empty for p in self._positional)
        self._simple = len(self._positional) == len(parameters)
        self._rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "")
        self._named_rest = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), "")
        with suppress(_UnresolvedError):  # a forward reference is resolved when it is first used
            _ = self._types

    @cached_property
    def _hints(self) -> dict[str, Any]:
        try:
            return typing.get_type_hints(self._function, include_extras=True)
        except NameError as error:
            message = f"task {self._name}: {error}; import it at run time, not under TYPE_CHECKING"
            raise _UnresolvedError(message) from error
        except TypeError as error:  # an object that can be called
            message = f"task {self._name}: {error} Wrap it into a function of your own"
            raise ConfigurationError(message) from error

    @cached_property
    def _types(self) -> dict[str, Any]:
        """Annotation by parameter name, ``Any`` where there is none."""
        types = {name: self._hints.get(name, Any) for name in self._signature.parameters}
        for name, annotation in types.items():
            check_type(annotation, f"parameter {name!r} of task {self._name}")
        return types

    @cached_property
    def returns(self) -> Any:
        """The type of the task's result, ``Any`` where it is not annotated."""
        hint = self._hints.get("return", Any)
        check_type(hint, f"the result of task {self._name}")
        return hint

    @cached_property
    def _inexact(self) -> dict[str, Fidelity]:
        """The parameters for which what is sent has to be compared with what arrives."""
        found = {name: fidelity(annotation) for name, annotation in self._types.items()}
        return {name: how for name, how in found.items() if how is not Fidelity.EXACT}

    @cached_property
    def _decoders(self) -> dict[Format, Any]:
        """Per format: positional arguments as a struct, so that all are converted in one pass."""
        fields = [(f"p{i}", self._types[p.name] | _Unset, msgspec.UNSET) for i, p in enumerate(self._positional)]
        try:
            struct = msgspec.defstruct("Arguments", fields, array_like=True, forbid_unknown_fields=True, gc=False)
            return {"json": decoder(struct, "json"), "msgpack": decoder(struct, "msgpack")}
        except TypeError as error:
            message = f"the parameters of task {self._name} cannot travel: {error}"
            raise ConfigurationError(message) from error

    def encode(
        self, args: Sequence[object], kwargs: Mapping[str, object], format: Format
    ) -> tuple[msgspec.Raw, msgspec.Raw]:
        """Bind a call to the signature, convert and encode it.

        Raises ``ArgumentsError`` when the call does not fit the signature or its types.
        """
        if kwargs or not self._simple or not self._required <= len(args) <= len(self._positional):
            bound = self._bind(args, kwargs)
            args, kwargs = bound.args, bound.kwargs
        try:
            raw_args = encode_exactly(args, format)
            raw_kwargs = encode_exactly(kwargs, format) if kwargs else _NO_KWARGS[format]
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            guilty = self._guilty(args, kwargs, format)
            raise ArgumentsError(f"{self._name}(): {guilty} cannot travel: {error}") from error
        arrived_args, arrived_kwargs = self._decode(raw_args, raw_kwargs, format)
        if self._inexact:
            try:
                self._compare(zip(self._names(len(args)), args, arrived_args, strict=True))
                self._compare((self._keyword(name), value, arrived_kwargs[name]) for name, value in kwargs.items())
            except RecursionError as error:
                raise ArgumentsError(f"{self._name}(): an argument is nested too deep") from error
        return raw_args, raw_kwargs

    def check_takes_one(self, what: str) -> None:
        """Raises ``ConfigurationError`` unless the function can be called with one argument, which is ``what``."""
        try:
            self._signature.bind(None)
        except TypeError as error:
            message = f"{self._name} is called with {what}: {error}"
            raise ConfigurationError(message) from None

    def decode(self, task: Task, format: Format) -> _Bound:
        """The arguments of a task, converted. Raises ``ArgumentsError`` when they do not fit the signature."""
        args, kwargs = self._decode(task.args, task.kwargs, format)
        if kwargs or not self._simple or len(args) < self._required:
            self._bind(args, kwargs)
        return args, kwargs

    def _bind(self, args: Sequence[object], kwargs: Mapping[str, object]) -> inspect.BoundArguments:
        try:
            return self._signature.bind(*args, **kwargs)
        except TypeError as error:
            message = f"{self._name}(): {error}"
            raise ArgumentsError(message) from None

    def _decode(self, args: msgspec.Raw, kwargs: msgspec.Raw, format: Format) -> _Bound:
        try:
            named = {} if kwargs is NO_KWARGS or bytes(kwargs) in _NOTHING else self._convert_named(kwargs, format)
            return self._convert_positional(args, format), named
        except ConfigurationError:  # an annotation is wrong, not an argument
            raise
        except (ValueError, RecursionError, OverflowError) as error:
            problem = str(error)
            for index, parameter in enumerate(self._positional):
                problem = problem.replace(f"`$[{index}]", f"`{parameter.name}")
            raise ArgumentsError(f"{self._name}(): {problem}") from error

    def _convert_positional(self, args: msgspec.Raw, format: Format) -> Sequence[Any]:
        try:
            if not self._simple:
                values = decode_value(args, list[Any], format)
                names = self._names(len(values))
                return [self._convert(name, value) for name, value in zip(names, values, strict=True)]
            positional = msgspec.structs.astuple(self._decoders[format].decode(args))
        except ValueError:
            if bytes(args) in _NOTHING:  # looked at last, since it is rare
                return ()
            if self._simple and self._are_too_many(args, format):
                message = "too many positional arguments"
                raise ValueError(message) from None
            raise
        while positional and positional[-1] is msgspec.UNSET:
            positional = positional[:-1]
        return positional

    def _are_too_many(self, args: msgspec.Raw, format: Format) -> bool:
        with suppress(ValueError, RecursionError):
            return len(decode_value(args, list[Any], format)) > len(self._positional)
        return False

    def _convert_named(self, kwargs: msgspec.Raw, format: Format) -> dict[str, Any]:
        values = decode_value(kwargs, dict[str, Any], format)
        return {name: self._convert(self._keyword(name), value) for name, value in values.items()}

    def _convert(self, name: str, value: object) -> Any:
        try:
            return convert(value, self._types.get(name, Any))
        except ValueError as error:
            message = f"{error} - in `{name}`"
            raise ValueError(message) from error

    def _keyword(self, name: str) -> str:
        """The parameter that a keyword argument goes to."""
        parameter = self._signature.parameters.get(name)
        return self._named_rest if parameter is None or parameter.kind is parameter.POSITIONAL_ONLY else name

    def _names(self, count: int) -> list[str]:
        """The names of the parameters that so many positional arguments go to."""
        names = [p.name for p in self._positional]
        return [*names, *[self._rest] * (count - len(names))][:count]

    def _compare(self, arguments: Iterable[tuple[str, object, object]]) -> None:
        """Refuse arguments that would change on the way."""
        for name, sent, arrived in arguments:
            how = self._inexact.get(name)
            if how is not None and not is_same(sent, arrived, plain=how is Fidelity.PLAIN):
                plain = "annotate it with its type, or pass plain JSON values"
                advice = plain if how is Fidelity.PLAIN else "pass what it is annotated as"
                change = f"a {type(sent).__name__} would not arrive as it is sent ({arrived!r:.60})"
                raise ArgumentsError(f"{self._name}(): {name}: {change}; {advice}")

    def _guilty(self, args: Sequence[object], kwargs: Mapping[str, object], format: Format) -> str:
        """The name of the first argument that cannot be encoded."""
        for name, value in [*zip(self._names(len(args)), args, strict=True), *kwargs.items()]:
            try:
                encode_exactly(value, format)
            except (TypeError, ValueError, OverflowError, RecursionError):
                return name
        return "an argument"


class _UnresolvedError(ConfigurationError):
    """An annotation names something that is not defined, or not yet."""
