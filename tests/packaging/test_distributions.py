"""What a user installs: built, looked into, and installed alone."""

from __future__ import annotations

import subprocess
import tarfile
from email import message_from_bytes
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest

if TYPE_CHECKING:
    from email.message import Message
    from pathlib import Path

    from tests.packaging.conftest import Member

pytestmark = pytest.mark.slow

IMPORT_ALL = """
import importlib, pkgutil, sys
name, *plugins = sys.argv[1:]
package = importlib.import_module(name)
assert package.__file__.startswith(sys.prefix), package.__file__
for module in pkgutil.walk_packages(package.__path__, f"{name}."):
    if module.name not in plugins and not module.name.endswith(".__main__"):
        importlib.import_module(module.name)
"""

LOAD_ENTRY_POINTS = """
import sys
from importlib.metadata import distribution
for point in distribution(sys.argv[1]).entry_points:
    if point.group != "pytest11":
        point.load()
        print(point.group, point.name)
"""


@pytest.fixture
def metadata(wheel: Path) -> Message:
    with ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(name))


def test_wheel_holds_package_licence_and_typing_marker(wheel: Path, member: Member, root: Path) -> None:
    with ZipFile(wheel) as archive:
        names = archive.namelist()
        [licence] = [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]
        assert archive.read(licence) == (root / "LICENSE").read_bytes()
    assert f"{member.module}/py.typed" in names
    source = {path.relative_to(member.source.parent).as_posix() for path in member.source.rglob("*.*")}
    assert {name for name in names if name.startswith(f"{member.module}/") and not name.endswith("/")} == {
        name for name in source if "__pycache__" not in name
    }


def test_sdist_holds_licence_readme_and_typing_marker(sdist: Path, member: Member) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2]: archive.getmember(name) for name in archive.getnames()}
    assert {"LICENSE", "README.md", f"src/{member.module}/py.typed"} <= names.keys()
    assert names["LICENSE"].isfile()


def test_metadata_says_licence_python_and_readme(metadata: Message) -> None:
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Summary"]
    assert str(metadata.get_payload()).strip()


def test_dependencies_are_bounded_on_both_sides(metadata: Message) -> None:
    requirements = metadata.get_all("Requires-Dist", [])
    assert requirements
    assert [each for each in requirements if ">=" not in each or "<" not in each.replace("<=", "")] == []


def test_every_module_imports_when_installed_alone(scripts: Path, member: Member) -> None:
    done = python(scripts, IMPORT_ALL, member.module, *member.plugins)
    assert done.returncode == 0, done.stderr


def test_entry_points_load_when_installed_alone(scripts: Path, member: Member) -> None:
    done = python(scripts, LOAD_ENTRY_POINTS, member.name)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.splitlines()) == set(member.entry_points)


def test_commands_run_when_installed_alone(scripts: Path, member: Member) -> None:
    for command in member.commands:
        done = subprocess.run([scripts / command, "--help"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert command in done.stdout


def python(scripts: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in the isolated environment, blind to this directory and to the variables of this process."""
    return subprocess.run(
        [scripts / "python", "-I", "-W", "error", "-c", code, *arguments], capture_output=True, text=True, check=False
    )
