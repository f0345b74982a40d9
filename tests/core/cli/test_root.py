"""What all commands have in common, and the commands of other packages."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

import anybroker
from anybroker.cli.exits import exit_code
from anybroker.cli.root import root
from anybroker.errors import (
    AnybrokerError,
    ArgumentsError,
    BrokerUnavailable,
    ConfigurationError,
    ResultTimeout,
    TaskFailed,
    Unsupported,
)

if TYPE_CHECKING:
    from tests.core.cli.conftest import Install, Project

COMMANDS = [
    ["worker"],
    ["send"],
    ["call"],
    ["queues"],
    ["peek"],
    ["dead", "list"],
    ["dead", "show"],
    ["dead", "retry"],
    ["dead", "purge"],
    ["doctor"],
    ["bench"],
    ["init"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_an_example(command: list[str]) -> None:
    result = CliRunner().invoke(root, [*command, "--help"])
    assert result.exit_code == 0
    words = " ".join(result.output.split())
    assert "Example" in words
    assert f"anybroker {' '.join(command)}" in words.partition("Example")[2]


@pytest.mark.parametrize("command", [one for one in COMMANDS if one not in (["worker"], ["init"])], ids=" ".join)
def test_every_command_that_prints_has_json(command: list[str]) -> None:
    assert "--json" in CliRunner().invoke(root, [*command, "--help"]).output


def test_help_explains_exit_codes_and_lists_commands() -> None:
    output = CliRunner().invoke(root, ["--help"]).output
    assert "Exit codes:" in output
    assert all(command[0] in output for command in COMMANDS)
    assert "--install-completion" in output


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TaskFailed("x"), 1),
        (AnybrokerError("x"), 1),
        (ConfigurationError("x"), 2),
        (ArgumentsError("x"), 2),
        (Unsupported("x"), 2),
        (BrokerUnavailable("x"), 3),
        (ResultTimeout("x"), 4),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exit_codes(error: AnybrokerError, code: int) -> None:
    assert exit_code(error) == code


def test_version() -> None:
    assert CliRunner().invoke(root, ["--version"]).output == f"anybroker {anybroker.__version__}\n"


def test_misspelt_command_is_exit_code_2_with_a_suggestion() -> None:
    result = CliRunner().invoke(root, ["wroker"])
    assert result.exit_code == 2
    assert "worker" in result.output


def test_runs_as_a_module(project: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "anybroker", "--help"], cwd=project.directory, capture_output=True, text=True, check=True
    )
    assert "Usage: anybroker [OPTIONS]" in done.stdout


def test_import_anybroker_does_not_import_the_command_line() -> None:
    code = "import sys, anybroker; sys.exit('anybroker.cli' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_shell_completes_commands(project: Project) -> None:
    done = project.run(
        _ANYBROKER_COMPLETE="complete_bash",
        COMP_WORDS="anybroker do",
        COMP_CWORD="1",
        _TYPER_COMPLETE_ARGS="anybroker do",
    )
    assert "doctor" in done.stdout


PLUGIN = """
import typer

commands = typer.Typer(help="Several things.", no_args_is_help=True)

@commands.command()
def one(name: str) -> None:
    "The first."
    print("one", name)

@commands.command()
def two() -> None:
    "The second."

def alone(count: int = 1) -> None:
    "Does one thing."
    from anybroker.errors import BrokerUnavailable
    if count > 1:
        raise BrokerUnavailable("gone")
    print("alone", count)
"""
POINTS = """[anybroker.commands]
several = plugin_module:commands
alone = plugin_module:alone
gone = nowhere_module:command
worker = plugin_module:alone
"""


@pytest.fixture
def plugged(project: Project, install: Install) -> Project:
    """A project beside a package with a group, a command, one that cannot be loaded, and one with a name of ours."""
    install("a-plugin", "plugin_module", PLUGIN, POINTS)
    return project


@pytest.mark.slow
def test_commands_of_other_packages_run(plugged: Project) -> None:
    assert plugged.run("several", "one", "x").stdout == "one x\n"
    assert plugged.run("alone").stdout == "alone 1\n"
    done = plugged.run("alone", "--count", "2")
    assert (done.returncode, done.stderr) == (3, "error: gone\n")


@pytest.mark.slow
def test_command_that_cannot_be_loaded_says_so_and_breaks_no_other(plugged: Project) -> None:
    listing = plugged.run("--help")
    assert listing.returncode == 0
    assert "Does one thing." in listing.stdout
    assert "Several things." in listing.stdout
    for arguments in (("gone",), ("gone", "--help"), ("gone", "x", "--y")):
        done = plugged.run(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("error: the command 'gone' of a-plugin cannot be loaded: ModuleNotFoundError")


def test_our_commands_cannot_be_replaced(plugged: Project) -> None:
    assert "Run the tasks of an app" in plugged.run("worker", "--help").stdout
