"""The members of the workspace, as source, as built distributions, and each installed alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).parents[2]


class Member(msgspec.Struct, frozen=True):
    """One distribution of the workspace."""

    folder: Path
    name: str
    dependencies: tuple[str, ...]
    """The names of the distributions it declares, those of its extras included."""
    commands: tuple[str, ...]
    """The names of its scripts."""
    entry_points: tuple[str, ...]
    """All it registers but for plugins, each as ``group name``."""
    plugins: tuple[str, ...]
    """Modules that only pytest imports."""

    @property
    def module(self) -> str:
        """The import name."""
        return self.name.replace("-", "_")

    @property
    def source(self) -> Path:
        """The folder of the package."""
        return self.folder / "src" / self.module


def read_member(folder: Path) -> Member:
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    extras = project.get("optional-dependencies", {}).values()
    requirements = [*project.get("dependencies", ()), *(each for extra in extras for each in extra)]
    groups = {"console_scripts": project.get("scripts", {}), **project.get("entry-points", {})}
    plugins = groups.pop("pytest11", {})
    return Member(
        folder=folder,
        name=project["name"],
        dependencies=tuple(re.split(r"[^\w.-]", each)[0] for each in requirements),
        commands=tuple(groups["console_scripts"]),
        entry_points=tuple(f"{group} {name}" for group, points in groups.items() for name in points),
        plugins=tuple(plugins.values()),
    )


def read_members() -> list[Member]:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["workspace"]["members"]
    return [read_member(folder) for pattern in patterns for folder in sorted(ROOT.glob(pattern))]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session", params=read_members(), ids=lambda member: member.name)
def member(request: pytest.FixtureRequest) -> Member:
    found: Member = request.param
    return found


@pytest.fixture(scope="session")
def uv() -> str:
    """The uv that runs these tests; ``uv run`` names itself in the environment."""
    found = os.environ.get("UV") or shutil.which("uv") or shutil.which(ROOT / ".tools/bin/uv")
    assert found, "uv is needed to build and install distributions: run `make test`"
    return found


@pytest.fixture(scope="session")
def dist(uv: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of every member, and the wheel that was built from it."""
    out = tmp_path_factory.mktemp("dist")
    run(uv, "build", "--quiet", "--all-packages", "--out-dir", str(out))
    return out


@pytest.fixture(scope="session")
def wheel(dist: Path, member: Member) -> Path:
    [found] = dist.glob(f"{member.module}-[0-9]*.whl")
    return found


@pytest.fixture(scope="session")
def sdist(dist: Path, member: Member) -> Path:
    [found] = dist.glob(f"{member.module}-[0-9]*.tar.gz")
    return found


@pytest.fixture(scope="session")
def scripts(wheel: Path, uv: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of an environment that holds the wheel, what it depends on, and nothing else."""
    environment = tmp_path_factory.mktemp("alone") / "venv"
    run(uv, "venv", "--quiet", str(environment))
    run(uv, "pip", "install", "--quiet", "--python", str(environment), f"--find-links={wheel.parent}", str(wheel))
    return environment / "bin"


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
