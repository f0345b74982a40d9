from __future__ import annotations

import hashlib
import io
import urllib.request
from pathlib import Path

import pytest

from anybroker_conformance.services import requirements
from anybroker_conformance.services.requirements import CACHE_VARIABLE, STAND_INS, InstallError, Jars, Program

REDIS = Program("redis-server", apt="redis-server", brew="redis")


@pytest.fixture
def jars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Jars:
    """A list of one jar, whose content is b"jar"."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(requirements, "STAND_INS", tmp_path)
    (tmp_path / "some.jars").write_text(f"# some\n{hashlib.sha256(b'jar').hexdigest()}  org/some/1/some-1.jar\n")
    return Jars("some", "1")


def test_jars_are_found_once_they_are_installed(jars: Jars, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: io.BytesIO(b"jar"))
    assert not jars.found()
    jars.install()
    assert jars.found()
    assert [(path.name, path.read_bytes()) for path in jars.folder.iterdir()] == [("some-1.jar", b"jar")]


def test_a_jar_with_another_content_is_refused_and_nothing_of_it_kept(
    jars: Jars, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: io.BytesIO(b"another"))
    with pytest.raises(InstallError, match="checksum"):
        jars.install()
    assert not jars.found()
    assert list(requirements.cache().iterdir()) == []


@pytest.mark.parametrize("name", ["elasticmq", "mongodb"])
def test_every_jar_has_a_checksum_and_a_name_of_its_own(name: str) -> None:
    lines = (STAND_INS / f"{name}.jars").read_text().splitlines()[1:]
    checksums, paths = zip(*(line.split() for line in lines), strict=True)
    assert all(len(bytes.fromhex(checksum)) == hashlib.sha256().digest_size for checksum in checksums)
    assert len({Path(path).name for path in paths}) == len(lines) > 10


def test_a_program_is_found_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = tmp_path / "anybroker-test-server"
    program = Program(server.name, apt="server", brew="server")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not program.found()
    server.touch(mode=0o755)
    assert program.path() == server


def test_whoever_is_not_root_is_told_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 1000)
    monkeypatch.setattr("sys.platform", "linux")
    assert REDIS.command("redis") == "sudo apt-get install --yes redis-server"
    with pytest.raises(InstallError, match="sudo apt-get install --yes redis-server"):
        REDIS.install()
    monkeypatch.setattr("sys.platform", "darwin")
    assert REDIS.command("redis") == "brew install redis"
