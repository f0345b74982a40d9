"""Results as the values of registers, and as messages to those who wait for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anybroker.backend import Result, State
from anybroker_backend_amqp.registers import Value

if TYPE_CHECKING:
    from collections.abc import Mapping


def to_value(result: Result) -> Value:
    """The state, the attempt and the id are fields."""
    return Value(result.body, {"id": result.id, "state": result.state.value, "attempt": result.attempt})


def to_result(body: bytes, fields: Mapping[str, Any]) -> Result:
    """The opposite."""
    return Result(fields["id"], State(fields["state"]), fields["attempt"], body)
