import json
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pseudoval.data.files import (
    MARKER,
    atomic_path,
    claim_folder,
    clear_folder,
    folder_kind,
    read_npz,
    remove_unfinished,
    require_folder,
    write_json,
    write_npz,
)
from pseudoval.errors import UserError


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, [1])
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert json.loads(path.read_text()) == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_json_is_strict(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", float("nan"))
    assert list(tmp_path.iterdir()) == []


def test_npz_is_reproducible_and_without_pickle(tmp_path: Path) -> None:
    arrays = {"a": np.arange(5), "b": np.array(["x", "yy"])}
    for name in ("1.npz", "2.npz"):
        write_npz(tmp_path / name, arrays)
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()
    assert read_npz(tmp_path / "1.npz", "x")["b"].tolist() == ["x", "yy"]
    with pytest.raises(ValueError):
        write_npz(tmp_path / "3.npz", {"o": np.array([{}], dtype=object)})
    assert not (tmp_path / "3.npz").exists()


def test_new_and_empty_folders_become_ours(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "deep/new"):
        claim_folder(tmp_path / name, "run")
        assert folder_kind(tmp_path / name) == "run"
        claim_folder(tmp_path / name, "run")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "empty"]


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="pseudoval did not write"):
        claim_folder(tmp_path, "run")
    with pytest.raises(UserError, match="is a file"):
        claim_folder(tmp_path / "notes.txt", "run")
    claim_folder(tmp_path / "model", "model")
    with pytest.raises(UserError, match="is a model folder"):
        claim_folder(tmp_path / "model", "run")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "notes.txt"]
    with pytest.raises(UserError, match="expected a run folder"):
        require_folder(tmp_path / "model", "run", "pseudoval tune")
    with pytest.raises(UserError, match="make one with 'pseudoval tune'"):
        require_folder(tmp_path / "absent", "run", "pseudoval tune")


def test_clearing_keeps_the_marker(tmp_path: Path) -> None:
    claim_folder(tmp_path / "run", "run")
    (tmp_path / "run" / "sub").mkdir()
    (tmp_path / "run" / "sub" / "x").write_text("x")
    clear_folder(tmp_path / "run")
    assert [p.name for p in (tmp_path / "run").iterdir()] == [MARKER]


def test_two_processes_may_claim_a_folder_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Path.replace

    def late(self: Path, target: Path) -> Path:
        if self.is_dir():  # the other process gets there first
            monkeypatch.undo()
            claim_folder(tmp_path / "cache", "cache")
        return honest(self, target)

    monkeypatch.setattr(Path, "replace", late)
    claim_folder(tmp_path / "cache", "cache")
    assert folder_kind(tmp_path / "cache") == "cache"
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


DIES_WRITING = """
import os, sys, tempfile
from pathlib import Path
from lafite_core.files import replacing
from pseudoval.data import files
out = Path(sys.argv[1])
with files.atomic_path(out / "a.json") as one, replacing(out / "b.safetensors") as other:
    one.touch(), other.touch()
    os.rename = os.replace = Path.replace = lambda *paths: os._exit(9)
    files.claim_folder(out / "run", "run")
"""


def test_what_a_killed_process_had_begun_is_removed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DIES_WRITING, str(tmp_path)]
    assert subprocess.run(command, check=False).returncode == 9
    left = list(tmp_path.iterdir())
    assert len(left) == 3 and any(path.is_dir() for path in left)
    names = [path.name for path in left if path.is_file()]
    others = [name.replace(platform.node(), "node-17") for name in names]
    with atomic_path(tmp_path / "mine.json") as mine:
        for path in (mine, *(tmp_path / name for name in others), tmp_path / ".hidden.tmp"):
            path.touch()
        remove_unfinished(tmp_path.iterdir())
        there = {path.name for path in tmp_path.iterdir()}
        assert there == {mine.name, *others, ".hidden.tmp"}


def test_claiming_removes_what_a_killed_claim_left(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DIES_WRITING, str(tmp_path)]
    assert subprocess.run(command, check=False).returncode == 9
    claim_folder(tmp_path / "run", "run")
    assert not [path for path in tmp_path.iterdir() if path.is_dir() and path.name != "run"]
