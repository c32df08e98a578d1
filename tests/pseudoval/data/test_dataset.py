"""The MVTec layout and each way in which it can be wrong."""

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from helpers import road_commands, with_options
from PIL import Image

from pseudoval.cli.commands import run
from pseudoval.data import dataset
from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import ScoreMatrix
from pseudoval.pseudo_set.manifest import pseudo_items


def touch(root: Path, *names: str) -> None:
    """Make files; the layout is read by names alone."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)
        else:
            path.write_text("x")


def test_categories_are_sorted_sub_folders_with_train_good(tmp_path: Path) -> None:
    touch(tmp_path, "b/train/good/0.png", "a/train/good/0.png", "docs/readme.txt", "note.txt")
    touch(tmp_path, ".cache/train/good/0.png")
    assert dataset.list_categories(tmp_path) == ["a", "b"]
    assert dataset.list_categories(tmp_path, ["b", "b"]) == ["b"]


def test_bad_roots(tmp_path: Path) -> None:
    def refused(root: Path, match: str, wanted: list[str] | None = None) -> None:
        with pytest.raises(UserError, match=match):
            dataset.list_categories(root, wanted)

    refused(tmp_path / "none", "does not exist")
    refused(tmp_path, "no category in")
    touch(tmp_path, "file.txt")
    refused(tmp_path / "file.txt", "is a file")
    touch(tmp_path, "a/train/good/0.png")
    refused(tmp_path / "a", f"single category.*parent {tmp_path}")
    refused(tmp_path, "no category 'z'.*it has a", ["z"])
    refused(tmp_path, "No category is named", [])
    touch(tmp_path, "c/train/bad/0.png")
    refused(tmp_path, "'c' has no folder")
    refused(tmp_path, "'c' has no folder", ["c"])
    assert dataset.list_categories(tmp_path, ["a"]) == ["a"]


def test_train_normals(tmp_path: Path) -> None:
    touch(tmp_path, *(f"a/train/good/{n}" for n in ("2.png", "1.PNG", "0.jpeg", "3.tiff")))
    touch(tmp_path, "a/train/good/.hidden.txt", "a/train/good/Thumbs.db")
    found = [path.name for path in dataset.train_normals(tmp_path, "a")]
    assert found == ["0.jpeg", "1.PNG", "2.png", "3.tiff"]
    touch(tmp_path, "a/train/good/notes.txt")
    with pytest.raises(UserError, match=r"notes\.txt is not an image file"):
        dataset.train_normals(tmp_path, "a")
    (tmp_path / "b/train/good").mkdir(parents=True)
    with pytest.raises(UserError, match="no normal image"):
        dataset.train_normals(tmp_path, "b")
    with pytest.raises(UserError, match="'c' has no folder"):
        dataset.train_normals(tmp_path, "c")


def test_test_items_find_their_masks(tmp_path: Path) -> None:
    touch(tmp_path, "a/test/good/0.png", "a/test/cut/0.png", "a/test/cut/1.png", "a/test/cut/2.png")
    touch(tmp_path, "a/test/bent/0.png", "a/test/note.txt")
    touch(tmp_path, "a/ground_truth/cut/0_mask.png", "a/ground_truth/cut/1.bmp")
    items = dataset.test_items(tmp_path, "a")
    assert [item.id for item in items] == [
        "a/test/good/0.png",
        "a/test/bent/0.png",
        "a/test/cut/0.png",
        "a/test/cut/1.png",
        "a/test/cut/2.png",
    ]
    assert [item.label for item in items] == [0, 1, 1, 1, 1]
    assert [item.defect for item in items] == ["good", "bent", "cut", "cut", "cut"]
    masks = [item.mask_path.name if item.mask_path else None for item in items]
    assert masks == [None, None, "0_mask.png", "1.bmp", None]
    assert all(item.group == item.id and item.path == tmp_path / item.id for item in items)


def test_bad_test_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no test folder"):
        dataset.test_items(tmp_path, "a")
    touch(tmp_path, "a/test/cut/0.png")
    with pytest.raises(UserError, match="no normal test image"):
        dataset.test_items(tmp_path, "a")
    touch(tmp_path, "b/test/good/0.png")
    with pytest.raises(UserError, match="no anomalous test image"):
        dataset.test_items(tmp_path, "b")
    touch(tmp_path, "b/test/cut/0.txt")
    with pytest.raises(UserError, match=r"0\.txt is not an image file"):
        dataset.test_items(tmp_path, "b")


def test_a_study_and_its_evaluation_hash_every_image_once(
    road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Counter[str] = Counter()
    digest = hashlib.file_digest

    def counted(file: BinaryIO, name: str) -> object:
        read[file.name] += file.name.endswith(".png")
        return digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    _, _, tune, evaluate, _ = road_commands(road)
    assert run(with_options(tune, out=tmp_path / "run", t="25,300")) == 0  # two stages
    pseudo = +read
    assert {Path(name) for name in pseudo} == {i.path for i in pseudo_items(road / "pseudo")}
    assert run([evaluate[0], str(tmp_path / "run"), evaluate[2]]) == 0
    test = read - pseudo
    assert len(test) == len(ScoreMatrix.load(tmp_path / "run" / "test_scores.npz").images)
    assert set((pseudo | test).values()) == {1}


def test_a_file_that_changed_has_another_hash_in_the_next_listing(data: Path) -> None:
    item = dataset.ImageItem(
        id="a", path=data / "a/train/good/000.png", category="a", label=0, group="a",
        mask_path=None, defect="good",
    )  # fmt: skip
    before = dataset.data_sha256([item])
    item.path.write_bytes((data / "b/train/good/000.png").read_bytes())
    assert dataset.data_sha256([replace(item)]) != before
