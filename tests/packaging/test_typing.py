"""What pyright knows about the public API: the type of everything, from annotations alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import anybroker

pytestmark = pytest.mark.slow


CONTRACT = ("anybroker.backend", "anybroker.broker", "anybroker.capabilities", "anybroker.errors")


def test_public_api_is_typed_in_full() -> None:
    exported = [getattr(anybroker, name) for name in anybroker.__all__]
    public = {*CONTRACT, *(f"{it.__module__}.{it.__qualname__}" for it in exported if hasattr(it, "__qualname__"))}
    unclear = [
        f"{symbol['name']}: {diagnostic['message']}"
        for symbol in verified_symbols()
        if any(symbol["name"] == name or symbol["name"].startswith(f"{name}.") for name in public)
        for diagnostic in symbol["diagnostics"]
        if diagnostic["severity"] == "error"
    ]
    # An attribute without an annotation makes all that mentions its class "partially unknown": causes first.
    assert "\n".join(sorted(unclear, key=lambda line: "partially unknown" in line)) == ""


def verified_symbols() -> list[dict[str, Any]]:
    # pyright looks into the environment of the first python on the PATH, whatever --pythonpath says.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", "pyright", "--verifytypes", "anybroker", "--ignoreexternal", "--outputjson"]
    done = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
    symbols: list[dict[str, Any]] = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    assert {"anybroker.broker.Broker.enqueue", "anybroker.errors.LeaseLost"} <= {symbol["name"] for symbol in symbols}
    return symbols
