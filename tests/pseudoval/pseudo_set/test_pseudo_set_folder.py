"""Bad input leaves nothing behind, and folders are finished, replaced or left alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import contents
from PIL import Image

from pseudoval.data.files import folder_kind
from pseudoval.errors import UserError
from pseudoval.generators import DEFAULT_GENERATOR
from pseudoval.pseudo_set import make as pseudo_make
from pseudoval.pseudo_set.build import build
from pseudoval.pseudo_set.manifest import load_manifest, pseudo_items


def spoil_truncated(data: Path) -> None:
    path = data / "b" / "train" / "good" / "007.png"
    path.write_bytes(path.read_bytes()[:200])


def spoil_text(data: Path) -> None:
    (data / "b" / "train" / "good" / "note.txt").write_text("x")


def spoil_few(data: Path) -> None:
    for path in sorted((data / "b" / "train" / "good").iterdir())[2:]:
        path.unlink()


def spoil_black(data: Path) -> None:
    for i, path in enumerate(sorted((data / "b" / "train" / "good").iterdir())):
        black = np.zeros((40, 40, 3), np.uint8)
        black[i, 0] = 1
        Image.fromarray(black).save(path)


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (spoil_truncated, r"007\.png is damaged"),
        (spoil_text, r"note\.txt is not an image"),
        (spoil_few, "Category 'b' has 2 normal images"),
        (spoil_black, "No anomaly can be made on .*no fragment met the constraints"),
    ],
)
def test_bad_data_leaves_nothing_behind(
    data: Path, tmp_path: Path, spoil: Callable[[Path], None], match: str
) -> None:
    spoil(data)
    with pytest.raises(UserError, match=match):
        build(data, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"holdout": 1.0}, "between 0 and 1"),
        ({"per_normal": 0}, "per_normal is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"workers": 0}, "workers is 0"),
        ({"generator": "none"}, "no generator 'none'"),
        ({"settings": {"size": "1"}}, "no option 'size'"),
        ({"categories": ["z"]}, "no category 'z'"),
    ],
)
def test_bad_options_leave_nothing_behind(
    data: Path, tmp_path: Path, options: dict[str, Any], match: str
) -> None:
    with pytest.raises(UserError, match=match):
        build(data, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_out_and_data_must_lie_apart(data: Path, tmp_path: Path) -> None:
    before = contents(tmp_path)
    for out in (data, data / "pseudo", tmp_path):
        with pytest.raises(UserError, match="one inside the other"):
            build(data, out)
    assert contents(tmp_path) == before


def test_a_foreign_folder_is_left_alone(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "letter.txt").write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="did not write"):
            build(data, out, overwrite=overwrite)
    assert contents(out) == {"letter.txt": b"dear"}


def test_same_request_again_does_nothing(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = build(data, out)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert build(data, out, workers=2) == first
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == times


def test_another_request_needs_overwrite(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build(data, out)
    before = contents(out)
    for options, match in (
        ({"seed": 1}, "seed was 0, now 1"),
        ({"settings": {"jitter": "0.2"}}, "jitter was 0.1, now 0.2"),
        ({"categories": ["a"]}, "categories was"),
    ):
        with pytest.raises(UserError, match=match):
            build(data, out, **options)  # type: ignore[arg-type]
    assert contents(out) == before
    (data / "a" / "train" / "good" / "new.png").write_bytes(
        (data / "b" / "train" / "good" / "000.png").read_bytes()
    )
    with pytest.raises(UserError, match="train normals of the data have changed"):
        build(data, out)
    manifest = build(data, out, seed=1, categories=["a"], overwrite=True)
    assert manifest["categories"] == ["a"] and not (out / "b").exists()
    build(data, tmp_path / "fresh", seed=1, categories=["a"])
    assert contents(out) == contents(tmp_path / "fresh")


class Stop(Exception):
    """Stands for a kill."""


def interrupt(data: Path, out: Path, after: int, **options: Any) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if stage == "writing" and done == after:
            raise Stop

    with pytest.raises(Stop):
        build(data, out, progress=stop, **options)


def test_an_interrupted_set_is_completed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(data, tmp_path / "whole")
    out = tmp_path / "out"
    interrupt(data, out, 3)
    assert folder_kind(out) == "pseudo" and not (out / "manifest.json").exists()
    with pytest.raises(UserError, match="unfinished"):
        load_manifest(out)
    with pytest.raises(UserError, match="seed was 0, now 5"):
        build(data, out, seed=5)
    (out / "a" / "test" / DEFAULT_GENERATOR / ".half.123.tmp.png").write_bytes(b"half")
    made: list[Path] = []
    write = pseudo_make.write_png
    monkeypatch.setattr(pseudo_make, "write_png", lambda p, a: (made.append(p), write(p, a)))
    build(data, out)
    assert contents(out) == contents(tmp_path / "whole")
    assert len(made) == 2 * (8 - 3)  # image and mask of what was missing


def test_an_interrupted_set_can_be_replaced(data: Path, tmp_path: Path) -> None:
    interrupt(data, tmp_path / "out", 3)
    build(data, tmp_path / "out", seed=1, overwrite=True)
    build(data, tmp_path / "fresh", seed=1)
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_a_set_that_lost_files_is_made_whole_again(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build(data, out)
    before = contents(out)
    victim = next(path for path in (out / "a" / "test" / DEFAULT_GENERATOR).iterdir())
    victim.unlink()
    with pytest.raises(UserError, match=f"{victim.name} of the pseudo set is missing"):
        pseudo_items(out)
    build(data, out)
    assert contents(out) == before
    (out / "manifest.json").unlink()
    (out / "a" / "test" / DEFAULT_GENERATOR / "stray.png").write_bytes(b"x")
    build(data, out)
    assert contents(out) == before


def test_progress_counts_every_image(data: Path, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    build(data, tmp_path / "out", progress=lambda *call: calls.append(call))
    assert calls == [("reading", i, 16) for i in range(1, 17)] + [
        ("writing", i, 8) for i in range(1, 9)
    ]
