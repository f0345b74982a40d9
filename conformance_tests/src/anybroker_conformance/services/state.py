"""The one folder that tells which services there are: in it one each, with ``service.json`` and the nodes' data."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE = "ANYBROKER_SERVICES_DIR"
"""The environment variable that names another folder than the default one."""


class Entry(msgspec.Struct, frozen=True):
    """What is written down about a service, before anything of it is started and again once it is ready."""

    name: str
    how: Literal["docker", "local"]
    ports: dict[str, int]
    version: str = ""
    """Empty until the service is ready."""
    seconds: float = 0.0
    """The time it took to become ready."""


class State:
    """The folder. Whoever starts or ends something holds its lock meanwhile."""

    def __init__(self, folder: Path | None = None) -> None:
        named = os.environ.get(VARIABLE)
        default = Path(tempfile.gettempdir()) / f"anybroker-services-{os.getuid()}"
        self.folder = (folder or (Path(named) if named else default)).absolute()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep others from changing anything; the folder is gone afterwards if nothing is left in it."""
        descriptor = self._locked_file()
        try:
            yield
        finally:
            if not self.entries():
                (self.folder / "lock").unlink()
                with contextlib.suppress(OSError):  # the folder may be one that somebody uses for more
                    self.folder.rmdir()
            os.close(descriptor)

    def _locked_file(self) -> int:
        """An open lock file; not one that its holder deleted while we waited."""
        path = self.folder / "lock"
        while True:
            with contextlib.suppress(FileNotFoundError):  # somebody removed the folder meanwhile
                if not self.folder.is_dir():
                    with contextlib.suppress(FileExistsError):
                        self.folder.mkdir(mode=0o700, parents=True)
                if self.folder.stat().st_uid != os.getuid():
                    raise PermissionError(f"{self.folder} is somebody else's; set {VARIABLE} to a folder of your own")
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if _is_named(descriptor, path):
                    return descriptor
                os.close(descriptor)

    def entries(self) -> dict[str, Entry]:
        """All services that were started and not ended, by name."""
        found = {}
        for file in sorted(self.folder.glob("*/service.json")):
            with contextlib.suppress(FileNotFoundError):  # it was ended meanwhile
                entry = msgspec.json.decode(file.read_bytes(), type=Entry)
                found[entry.name] = entry
        return found

    def write(self, entry: Entry) -> Path:
        """Write an entry in one piece; returns the folder of the service."""
        folder = self.folder / entry.name
        folder.mkdir(exist_ok=True)
        (folder / "service.json.new").write_bytes(msgspec.json.encode(entry))
        (folder / "service.json.new").replace(folder / "service.json")
        return folder

    def remove(self, name: str) -> None:
        """Forget a service, and all of its data."""
        folder = self.folder / name
        if not folder.exists():
            return
        entry = folder / "service.json"
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path != entry:
                path.unlink()
        entry.unlink(missing_ok=True)  # last: what was removed half way is found again
        folder.rmdir()


def _is_named(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one with this name."""
    try:
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False
