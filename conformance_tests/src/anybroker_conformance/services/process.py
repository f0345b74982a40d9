"""Server processes that outlive whoever started them, and that are known again by more than their number.

Each runs in a session and a folder of its own. Before it becomes the server it writes down who it is into the file
``pid`` there: so no process is ever unknown, even if the one that started it was killed at once. A number alone may
by now belong to another process; number and start time together do not.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_PS = "ps -o pid=,stat=,lstart= -p"
# A server must not become one without having written down who it is.
_LAUNCH = f"""
cd "$0" && {{ cat /proc/$$/stat 2>/dev/null || {_PS} $$; }} >pid.new && mv pid.new pid && exec "$@"
"""
_DEAD = ("Z", "X")
_POLL = 0.02
_KILL_SECONDS = 10.0


class Process(msgspec.Struct, frozen=True):
    """A process of this machine: its number, and when it was started, in whatever unit the system counts."""

    pid: int
    started: str


def start(folder: Path, command: Sequence[str | Path], environment: Mapping[str, str]) -> Process:
    """Start a server in `folder`; what it prints is appended to the file ``log`` there.

    Raises OSError if it did not even get as far as writing its ``pid`` file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pid_file, log = folder / "pid", folder / "log"
    pid_file.unlink(missing_ok=True)
    arguments = ["sh", "-c", _LAUNCH, str(folder), *map(str, command)]
    pid = os.posix_spawn(
        "/bin/sh",
        arguments,
        {**os.environ, **environment},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    if not _wait(lambda: pid_file.exists() or not _observe(pid), _KILL_SECONDS) or not (process := read(folder)):
        raise OSError(f"{shlex.join(map(str, command))} could not be started in {folder}")
    return process


def read(folder: Path) -> Process | None:
    """The process that was last started in `folder`, running or not."""
    try:
        text = (folder / "pid").read_text()
    except FileNotFoundError:
        return None
    return parse(text)[0] if text.strip() else None


def state(process: Process | None) -> Literal["running", "paused", "ended"]:
    """What the process is doing now; "ended" if there is none, or another one has its number."""
    found = _observe(process.pid) if process else None
    if not found or found[0] != process:
        return "ended"
    return "paused" if found[1].startswith(("T", "t")) else "running"


def send(process: Process, number: signal.Signals) -> bool:
    """Send a signal to the process and its children; False if it has ended."""
    if state(process) == "ended":
        return False
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def pause(process: Process) -> bool:
    """Freeze the process and its children, and see that it stands still; False if it has ended."""
    return send(process, signal.SIGSTOP) and _wait(lambda: state(process) != "running", _KILL_SECONDS)


def end(process: Process, number: signal.Signals, patience: float) -> None:
    """End the process and its children with a signal; with SIGKILL when that took more than `patience` seconds."""
    if not send(process, number):
        return
    send(process, signal.SIGCONT)
    if _wait(lambda: _ended(process), patience):
        return
    # The number of a group is not given to a new process while the group has members.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    _wait(lambda: _ended(process), _KILL_SECONDS)


def _ended(process: Process) -> bool:
    """Whether the process has ended, and every other of its group."""
    if state(process) != "ended":
        return False
    if sys.platform != "linux":
        try:
            os.killpg(process.pid, 0)
        except (ProcessLookupError, PermissionError):  # the latter if only zombies are left
            return True
        return False
    return not any(_lives_in(process.pid, folder) for folder in Path("/proc").glob("[0-9]*"))


def _lives_in(group: int, folder: Path) -> bool:
    """Whether what Linux says about a process is of a member of a group, and not of a zombie."""
    try:
        text = (folder / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    member_of = text.rpartition(")")[2].split()[2]
    return int(member_of) == group and parse(text)[1] not in _DEAD


def _observe(pid: int) -> tuple[Process, str] | None:
    """The living process with this number and its state as the system names it."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # a child of ours would stay a zombie
    try:
        if sys.platform == "linux":
            text = Path(f"/proc/{pid}/stat").read_text()
        else:
            question = [*_PS.split(), str(pid)]
            text = subprocess.run(question, capture_output=True, text=True, check=False).stdout  # noqa: S603  our own words
    except (FileNotFoundError, ProcessLookupError):
        return None
    found = parse(text) if text.strip() else None
    return None if found is None or found[1].startswith(_DEAD) else found


def parse(text: str) -> tuple[Process, str]:
    """What Linux or `ps` says about a process."""
    if ")" in text:  # proc(5): pid (comm) state ppid ..., and the start time as field 22; comm may contain anything
        fields = text.rpartition(")")[2].split()
        status, threads = fields[0], int(fields[17])
        if status in _DEAD and threads > 1:  # its first thread has ended; the others still have its files and ports
            status = "R"
        return Process(pid=int(text.split(maxsplit=1)[0]), started=fields[19]), status
    pid, stat, started = text.split(maxsplit=2)
    return Process(pid=int(pid), started=started.strip()), stat


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(_POLL)
    return met
