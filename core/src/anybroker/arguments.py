"""Typed arguments and results: bound and checked where a task is sent, converted where it runs.

What can travel: None, bool, int, float, str, bytes, datetime, date, time, timedelta, Decimal, UUID, Enum, list, dict,
set, frozenset, tuple, dataclass, NamedTuple, TypedDict, ``msgspec.Struct``, and pydantic models where pydantic is
installed. A parameter without an annotation takes plain JSON values.
"""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import msgspec

from anybroker.errors import ArgumentsError, ConfigurationError
from anybroker.task import NO_ARGS, NO_KWARGS

if TYPE_CHECKING:
    from anybroker.codec import Format
    from anybroker.task import Task

_Arguments = tuple[Sequence[Any], Mapping[str, Any]]
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NO_KWARGS = {"json": NO_KWARGS, "msgpack": msgspec.Raw(b"\x80")}
_EMPTY = (b"{}", b"\x80")


def encode_value(value: object, format: Format) -> msgspec.Raw:
    """A value as it travels. Raises ``TypeError`` and ``ValueError`` for what cannot."""
    return msgspec.Raw(_ENCODERS[format].encode(value))


def decode_value(raw: msgspec.Raw, type: Any, format: Format) -> Any:
    """The inverse of :func:`encode_value`, as a value of ``type``. Raises ``ValueError`` where it does not fit."""
    return _decoder(type, format).decode(raw)


class Parameters:
    """The parameters of one task function: how its arguments are checked, encoded and decoded."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        """Raises ``ConfigurationError`` for a parameter whose type cannot travel, where it is known already."""
        self._function = function
        self._name = name
        self._signature = inspect.signature(function)
        parameters = list(self._signature.parameters.values())
        self._positional = [p for p in parameters if p.kind in _POSITIONAL]
        self._required = sum(p.default is p.empty for p in self._positional)
        self._simple = len(self._positional) == len(parameters)
        with suppress(NameError):  # a forward reference is resolved when it is first used
            _ = self._types

    @cached_property
    def _types(self) -> dict[str, Any]:
        """Annotation by parameter name, ``Any`` where there is none."""
        hints = typing.get_type_hints(self._function, include_extras=True)
        types = {name: hints.get(name, Any) for name in self._signature.parameters}
        for name, annotation in types.items():
            _check_type(annotation, f"parameter {name!r} of task {self._name}")
        return types

    @cached_property
    def returns(self) -> Any:
        """The type of the task's result, ``Any`` where it is not annotated."""
        hint = typing.get_type_hints(self._function, include_extras=True).get("return", Any)
        _check_type(hint, f"the result of task {self._name}")
        return hint

    @cached_property
    def _untyped(self) -> bool:
        return any(annotation is Any for annotation in self._types.values())

    @cached_property
    def _decoders(self) -> dict[Format, Any]:
        """Per format: positional arguments as a struct, so that all are converted in one pass."""
        fields = [(f"p{i}", self._types[p.name] | _Unset, msgspec.UNSET) for i, p in enumerate(self._positional)]
        try:
            struct = msgspec.defstruct("Arguments", fields, array_like=True, forbid_unknown_fields=True, gc=False)
            return {"json": _decoder(struct, "json"), "msgpack": _decoder(struct, "msgpack")}
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
            try:
                bound = self._signature.bind(*args, **kwargs)
            except TypeError as error:
                message = f"{self._name}(): {error}"
                raise ArgumentsError(message) from None
            args, kwargs = bound.args, bound.kwargs
        encoder = _ENCODERS[format]
        try:
            raw_args = msgspec.Raw(encoder.encode(args))
            raw_kwargs = msgspec.Raw(encoder.encode(kwargs)) if kwargs else _NO_KWARGS[format]
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            message = f"{self._name}(): an argument cannot travel: {error}"
            raise ArgumentsError(message) from error
        decoded_args, decoded_kwargs = self._decode(raw_args, raw_kwargs, format)
        if self._untyped:
            self._check_untyped(args, decoded_args)
            self._check_untyped(kwargs, decoded_kwargs)
        return raw_args, raw_kwargs

    def decode(self, task: Task, format: Format) -> _Arguments:
        """The arguments of a task, converted. Raises ``ArgumentsError`` when they do not fit the signature."""
        args, kwargs = self._decode(task.args, task.kwargs, format)
        if kwargs or not self._simple or len(args) < self._required:
            try:
                self._signature.bind(*args, **kwargs)
            except TypeError as error:
                message = f"{self._name}(): {error}"
                raise ArgumentsError(message) from None
        return args, kwargs

    def _decode(self, args: msgspec.Raw, kwargs: msgspec.Raw, format: Format) -> _Arguments:
        try:
            named = {} if bytes(kwargs) in _EMPTY else self._convert_named(decode_value(kwargs, dict[str, Any], format))
            if args is NO_ARGS:  # the field was left out, which in MessagePack too means: none
                return (), named
            if self._simple:
                positional = msgspec.structs.astuple(self._decoders[format].decode(args))
                while positional and positional[-1] is msgspec.UNSET:
                    positional = positional[:-1]
                return positional, named
            return self._convert_positional(decode_value(args, list[Any], format)), named
        except (ValueError, RecursionError, OverflowError) as error:
            raise ArgumentsError(f"{self._name}(): {self._named(str(error))}") from error

    def _convert_positional(self, values: list[Any]) -> list[Any]:
        names = [p.name for p in self._signature.parameters.values() if p.kind in _POSITIONAL]
        rest = next((p.name for p in self._signature.parameters.values() if p.kind is p.VAR_POSITIONAL), "")
        names += [rest] * (len(values) - len(names))
        return [_convert(value, self._types.get(name, Any), name) for value, name in zip(values, names, strict=False)]

    def _convert_named(self, values: dict[str, Any]) -> dict[str, Any]:
        rest = next((p.name for p in self._signature.parameters.values() if p.kind is p.VAR_KEYWORD), "")
        return {
            name: _convert(value, self._types.get(name, self._types.get(rest, Any)), name)
            for name, value in values.items()
        }

    def _check_untyped(
        self, sent: Sequence[object] | Mapping[str, object], received: Sequence[object] | Mapping[str, object]
    ) -> None:
        if sent == received or (isinstance(sent, tuple) and list(sent) == list(received)):
            return
        if isinstance(sent, Mapping):
            pairs = [(name, value, cast("Mapping[str, object]", received)[name]) for name, value in sent.items()]
        else:
            names = [*(p.name for p in self._positional), *["args"] * len(sent)]
            pairs = list(zip(names, sent, cast("Sequence[object]", received), strict=False))
        for name, value, arrived in pairs:
            if self._types.get(name, Any) is Any and value != arrived:
                message = (
                    f"{self._name}(): {name} has no annotation, so its {type(value).__name__} would arrive as "
                    f"{type(arrived).__name__}; annotate the parameter, or pass plain JSON values"
                )
                raise ArgumentsError(message)

    def _named(self, message: str) -> str:
        """The message with ``$[0]`` replaced by the parameter's name."""
        for index, parameter in enumerate(self._positional):
            message = message.replace(f"`$[{index}]", f"`{parameter.name}")
        return message


_Unset = msgspec.UnsetType


def _is_model(annotation: object) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel)


def _encode_foreign(value: object) -> object:
    if _is_model(type(value)):
        return cast("Any", value).model_dump(mode="json")
    message = f"{type(value).__name__} is not a type that can travel; see the list in the guide, or pass a dataclass"
    raise TypeError(message)


def _decode_foreign(annotation: type, value: object) -> object:
    if _is_model(annotation):
        return cast("Any", annotation).model_validate(value)
    message = f"{annotation.__name__} is not a type that can travel"
    raise TypeError(message)


_ENCODERS: dict[Format, Any] = {
    "json": msgspec.json.Encoder(enc_hook=_encode_foreign),
    "msgpack": msgspec.msgpack.Encoder(enc_hook=_encode_foreign),
}


def _decoder(annotation: Any, format: Format) -> Any:
    module = msgspec.json if format == "json" else msgspec.msgpack
    return module.Decoder(annotation, dec_hook=_decode_foreign)


def _convert(value: object, annotation: Any, name: str) -> Any:
    try:
        return msgspec.convert(value, annotation, dec_hook=_decode_foreign, str_keys=True)
    except ValueError as error:
        message = f"{error} - in `{name}`"
        raise ValueError(message) from error


def _check_type(annotation: object, where: str) -> None:
    """Raises ``ConfigurationError`` for an annotation whose values cannot travel."""
    try:
        parts = _parts(msgspec.inspect.type_info(annotation))
        msgspec.json.Decoder(annotation)
        foreign = [
            part.cls.__name__
            for part in parts
            if isinstance(part, msgspec.inspect.CustomType) and not _is_model(part.cls)
        ]
        problem = f"{foreign[0]} is not a type that can travel" if foreign else ""
    except TypeError as error:
        problem = str(error)
    if problem:
        message = f"{where}: {problem}; use builtins, dataclasses, msgspec.Struct, TypedDict, Enum or pydantic models"
        raise ConfigurationError(message)


def _parts(info: Any) -> list[Any]:
    """A type and the types that it is made of, down to but not into structs."""
    inner: list[Any] = [info]
    for attribute in ("item_type", "key_type", "value_type"):
        if isinstance(part := getattr(info, attribute, None), msgspec.inspect.Type):
            inner += _parts(part)
    for attribute in ("types", "item_types"):
        for part in getattr(info, attribute, ()):
            inner += _parts(part)
    return inner
