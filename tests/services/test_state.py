from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING

import pytest

from anybroker_conformance.services.door import Door
from anybroker_conformance.services.state import VARIABLE, Entry, State

if TYPE_CHECKING:
    from pathlib import Path

ENTRY = Entry(name="redis", how="local", ports={"redis": 20_000})


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


def test_an_entry_is_read_as_it_was_written(state: State) -> None:
    with state.lock():
        folder = state.write(ENTRY)
        assert folder == state.folder / "redis"
    assert state.entries() == {"redis": ENTRY}


def test_the_folder_is_gone_when_nothing_is_left_in_it(state: State) -> None:
    with state.lock():
        folder = state.write(ENTRY)
        (folder / "node").mkdir()
        (folder / "node" / "data").write_text("x")
    with state.lock():
        state.remove("redis")
    assert not state.folder.exists()
    assert state.entries() == {}


def test_what_else_is_in_the_folder_stays(state: State) -> None:
    state.folder.mkdir()
    (state.folder / "mine").write_text("x")
    with state.lock():
        state.remove("redis")
    assert [path.name for path in state.folder.iterdir()] == ["mine"]


def test_a_service_that_was_begun_but_not_written_down_is_removed(state: State) -> None:
    (state.folder / "redis").mkdir(parents=True)
    (state.folder / "redis" / "service.json.new").write_text("{")
    with state.lock():
        state.remove("redis")
    assert not state.folder.exists()


def test_what_ran_in_a_docker_that_is_gone_is_forgotten_aloud(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with state.lock():
        state.write(Entry(name="redis", how="docker", ports={"redis": 6379}, version="7"))
    monkeypatch.setenv("PATH", str(tmp_path))
    Door(state).down(["redis"])
    assert not state.folder.exists()
    assert "Docker no longer answers" in caplog.text
    assert "redis" in caplog.text


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert State().folder == tmp_path
    monkeypatch.delenv(VARIABLE)
    assert State().folder != tmp_path


@pytest.mark.slow
def test_only_one_holds_the_lock_though_each_removes_it(tmp_path: Path) -> None:
    folder, counter = tmp_path / "state", tmp_path / "counter"
    counter.write_text("0")
    others = [multiprocessing.get_context("spawn").Process(target=count, args=(folder, counter)) for _ in range(3)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert counter.read_text() == "150"
    assert not folder.exists()


def count(folder: Path, counter: Path) -> None:
    """Add one, fifty times, in a way that loses some without a lock."""
    for _ in range(50):
        with State(folder).lock():
            counter.write_text(str(int(counter.read_text()) + 1))
