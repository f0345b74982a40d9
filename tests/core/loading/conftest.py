from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Install(Protocol):
    def __call__(self, distribution: str, module: str, code: str, *, brokers: str = "", backends: str = "") -> None: ...


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide all installed distributions; what is imported already stays imported."""
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if not entry.endswith("-packages")])


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Lay out a distribution of one module as an installer would, in a folder on the path."""
    monkeypatch.syspath_prepend(tmp_path)
    modules: list[str] = []

    def lay_out(distribution: str, module: str, code: str, *, brokers: str = "", backends: str = "") -> None:
        (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        groups = f"[anybroker.brokers]\n{brokers}\n[anybroker.backends]\n{backends}\n"
        (info / "entry_points.txt").write_text(groups)
        modules.append(module)
        importlib.invalidate_caches()

    yield lay_out
    for module in modules:
        sys.modules.pop(module, None)
