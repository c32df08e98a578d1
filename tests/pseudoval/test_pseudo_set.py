"""Pseudo sets: reproducible, from held-out normals only, whole or absent."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from pseudoval import __version__, dataset, pseudo_set
from pseudoval.errors import UserError
from pseudoval.files import folder_kind
from pseudoval.images import read_mask, read_rgb
from pseudoval.pseudo_set import bank_normals, build, load_manifest, pseudo_items

FIXED_KEYS = {
    "format_version",
    "seed",
    "split_seed",
    "split_sha256",
    "generator",
    "categories",
    "images",
    "heldout_train",
    "package_version",
}


def texture(seed: int, side: int = 48) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(40, 210, (6, 6, 3)).astype(np.float32)
    return np.clip(cv2.resize(coarse, (side, side)), 0, 255).astype(np.uint8)


def make_data(root: Path, categories: str = "ab", count: int = 8) -> Path:
    for number, category in enumerate(categories):
        folder = root / category / "train" / "good"
        folder.mkdir(parents=True)
        for i in range(count):
            Image.fromarray(texture(100 * number + i)).save(folder / f"{i:03}.png")
    return root


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_data(tmp_path / "data")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a set, hidden ones too."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_manifest_and_files_agree(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    returned = build(data, out, holdout=0.4, per_normal=3)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest == returned == load_manifest(out)
    assert manifest.keys() >= FIXED_KEYS
    assert manifest["format_version"] == 1 and manifest["package_version"] == __version__
    assert manifest["categories"] == ["a", "b"] and manifest["generator"]["name"] == "lafite"
    assert manifest["generator"]["parameters"]["max_area"] == 0.05
    assert len(manifest["heldout_train"]) == 8  # ceil(0.4 * 8) of each category
    listed = {entry["path"] for entry in manifest["images"]}
    listed |= {entry["mask"] for entry in manifest["images"] if entry["mask"]}
    assert listed == contents(out).keys() - {"manifest.json", ".pseudoval.json"}
    assert len(manifest["images"]) == 8 * (1 + 3)
    for entry in manifest["images"]:
        assert sha256(out / entry["path"]) == entry["sha256"]
        assert entry["path"].split("/")[0] == entry["category"]
        assert set(entry["source_files"]) <= set(manifest["heldout_train"])
        if entry["label"]:
            assert sha256(out / entry["mask"]) == entry["mask_sha256"]
    assert str(tmp_path) not in (out / "manifest.json").read_text()
    lines = "".join(f"{h}\n" for h in sorted(sha256(data / n) for n in manifest["heldout_train"]))
    assert manifest["split_sha256"] == hashlib.sha256(lines.encode()).hexdigest()


def test_normals_are_copied_and_anomalies_are_made_of_held_out_ones(
    data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    manifest = build(data, out, holdout=0.4)
    groups: dict[str, int] = {}
    for entry in manifest["images"]:
        sources = [data / name for name in entry["source_files"]]
        groups[entry["group"]] = groups.get(entry["group"], 0) + 1
        if entry["label"] == 0:
            assert entry["group"] == entry["path"] and len(sources) == 1
            assert (out / entry["path"]).read_bytes() == sources[0].read_bytes()
            continue
        background, source = (read_rgb(path) for path in sources)
        assert sources[0] != sources[1] and sources[0].parent == sources[1].parent
        image = read_rgb(out / entry["path"])
        mask = read_mask(out / entry["mask"], image.shape[:2])
        changed = (image != background).any(axis=2)
        assert not changed[~mask].any() and changed[mask].mean() >= 0.9
        assert (image != source).any()
        assert Path(entry["group"]).name == sources[0].name
    assert set(groups.values()) == {3}


def test_fragments_come_from_no_image_outside_the_hold_out(tmp_path: Path) -> None:
    """Each normal has a colour of its own, so a fragment tells where it comes from."""
    folder = tmp_path / "data" / "a" / "train" / "good"
    folder.mkdir(parents=True)
    colours = [(20 + 30 * i, 250 - 30 * i, 10 * i) for i in range(8)]
    for i, colour in enumerate(colours):
        Image.fromarray(np.full((40, 40, 3), colour, np.uint8)).save(folder / f"{i}.png")
    out = tmp_path / "out"
    manifest = build(tmp_path / "data", out, holdout=0.5, per_normal=6, settings={"jitter": "0"})
    held = {colours[int(Path(name).stem)] for name in manifest["heldout_train"]}
    for item in pseudo_items(out):
        seen = {tuple(int(v) for v in pixel) for pixel in read_rgb(item.path).reshape(-1, 3)}
        assert seen <= held and len(seen) == 1 + item.label


def test_same_seed_same_bytes_whatever_the_workers(data: Path, tmp_path: Path) -> None:
    build(data, tmp_path / "one", per_normal=3)
    build(data, tmp_path / "two", per_normal=3, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    build(data, tmp_path / "other", per_normal=3, seed=1)
    one, other = contents(tmp_path / "one"), contents(tmp_path / "other")
    assert one.keys() == other.keys()
    differing = {name for name in one if one[name] != other[name]}
    masks_and_images = {name for name in one if "/lafite/" in name}
    assert differing == masks_and_images | {"manifest.json"}


def test_split_depends_on_content_and_split_seed_only(data: Path, tmp_path: Path) -> None:
    first = build(data, tmp_path / "1")
    for i, options in enumerate(
        ({"seed": 9}, {"settings": {"max_area": "0.1"}}, {"per_normal": 1})
    ):
        again = build(data, tmp_path / f"again{i}", **options)  # type: ignore[arg-type]
        assert again["heldout_train"] == first["heldout_train"]
        assert again["split_sha256"] == first["split_sha256"]
    other = build(data, tmp_path / "other", split_seed=1)
    assert other["split_sha256"] != first["split_sha256"]
    # The same pictures under other names, in another order.
    renamed = tmp_path / "renamed"
    for category in "ab":
        (renamed / category / "train" / "good").mkdir(parents=True)
        for i, path in enumerate(sorted((data / category / "train" / "good").iterdir())):
            shutil.copy(path, renamed / category / "train" / "good" / f"z{99 - i}.png")
    half = build(data, tmp_path / "half", holdout=0.5)
    moved = build(renamed, tmp_path / "moved", holdout=0.5)
    assert moved["split_sha256"] == half["split_sha256"]
    anomalies = [sorted(e["sha256"] for e in m["images"] if e["label"]) for m in (half, moved)]
    assert anomalies[0] == anomalies[1]


def test_one_category_alone_gives_the_same_files(data: Path, tmp_path: Path) -> None:
    build(data, tmp_path / "both")
    alone = build(data, tmp_path / "alone", categories=["b"])
    assert alone["categories"] == ["b"]
    both = contents(tmp_path / "both")
    for name, content in contents(tmp_path / "alone").items():
        assert name == "manifest.json" or both[name] == content


def test_exact_duplicates_stay_on_one_side_and_in_one_group(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", "a", 6)
    folder = data / "a" / "train" / "good"
    for path in sorted(folder.iterdir()):  # the same pixels in another file format
        Image.open(path).save(path.with_suffix(".bmp"))
    out = tmp_path / "out"
    manifest = build(data, out, holdout=0.4)
    held = manifest["heldout_train"]
    assert len(held) == 6 and len({Path(name).stem for name in held}) == 3
    anomalies = [entry for entry in manifest["images"] if entry["label"]]
    assert len({entry["path"] for entry in anomalies}) == 2 * len(held)
    assert len({entry["sha256"] for entry in anomalies}) == 2 * len(held)
    assert len({entry["group"] for entry in manifest["images"]}) == 3
    for entry in anomalies:
        assert len({Path(name).stem for name in entry["source_files"]}) == 2
    assert not {Path(i.id).stem for i in bank_normals(data, manifest)["a"]} & {
        Path(name).stem for name in held
    }


def test_layout_is_that_of_a_dataset(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build(data, out)
    listed = {item.id: item for category in "ab" for item in dataset.test_items(out, category)}
    items = pseudo_items(out)
    assert [item.id for item in items] == [e["path"] for e in load_manifest(out)["images"]]
    for item in items:
        same = listed.pop(item.id)
        assert (item.label, item.defect, item.mask_path, item.category) == (
            same.label,
            same.defect,
            same.mask_path,
            same.category,
        )
    assert not listed


def test_test_folders_of_the_data_are_never_looked_into(data: Path, tmp_path: Path) -> None:
    plain = build(data, tmp_path / "plain")
    (data / "a" / "test" / "good").mkdir(parents=True)
    (data / "a" / "test" / "good" / "rubbish.txt").write_text("x")
    (data / "b" / "test").write_text("not even a folder")
    assert build(data, tmp_path / "again") == plain


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
    (out / "a" / "test" / "lafite" / ".half.123.tmp.png").write_bytes(b"half")
    made: list[Path] = []
    write = pseudo_set.write_png
    monkeypatch.setattr(pseudo_set, "write_png", lambda p, a: (made.append(p), write(p, a)))
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
    victim = next(path for path in (out / "a" / "test" / "lafite").iterdir())
    victim.unlink()
    with pytest.raises(UserError, match=f"{victim.name} of the pseudo set is missing"):
        pseudo_items(out)
    build(data, out)
    assert contents(out) == before
    (out / "manifest.json").unlink()
    (out / "a" / "test" / "lafite" / "stray.png").write_bytes(b"x")
    build(data, out)
    assert contents(out) == before


def test_progress_counts_every_image(data: Path, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    build(data, tmp_path / "out", progress=lambda *call: calls.append(call))
    assert calls == [("reading", i, 16) for i in range(1, 17)] + [
        ("writing", i, 8) for i in range(1, 9)
    ]


def test_bad_manifests(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no pseudo set at"):
        load_manifest(tmp_path / "none")
    out = tmp_path / "out"
    manifest = build(data, out)
    path = out / "manifest.json"
    for text, match in (
        ("{", "cannot be read"),
        ("[]", "format version None"),
        (json.dumps({**manifest, "format_version": 2}), "format version 2"),
        (json.dumps({k: v for k, v in manifest.items() if k != "split_sha256"}), "split_sha256"),
        (json.dumps({**manifest, "images": [{}]}), r"images\[0\]\.path"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=match):
            load_manifest(out)


def test_bank_is_what_was_not_held_out(data: Path, tmp_path: Path) -> None:
    manifest = build(data, tmp_path / "out", categories=["b"])
    bank = bank_normals(data, manifest)
    assert bank.keys() == {"b"} and len(bank["b"]) == 6
    names = {item.id for item in bank["b"]}
    assert names == {f"b/train/good/{i:03}.png" for i in range(8)} - set(manifest["heldout_train"])
    assert all(item.label == 0 and item.path.is_file() for item in bank["b"])


def test_bank_refuses_changed_data(data: Path, tmp_path: Path) -> None:
    manifest = build(data, tmp_path / "out")
    held = data / manifest["heldout_train"][0]
    content = held.read_bytes()
    for suffix, match in ((".png", "copy of the held-out"), (".bmp", "copy of the held-out")):
        copy = held.with_name(f"copy{suffix}")
        Image.open(held).save(copy)
        with pytest.raises(UserError, match=match):
            bank_normals(data, manifest)
        copy.unlink()
    Image.fromarray(texture(999)).save(held)
    with pytest.raises(UserError, match="has other content now: the data changed"):
        bank_normals(data, manifest)
    held.unlink()
    with pytest.raises(UserError, match="is missing: the data changed"):
        bank_normals(data, manifest)
    held.write_bytes(content)
    for item in bank_normals(data, manifest)["a"]:
        item.path.unlink()
    with pytest.raises(UserError, match="no normal left"):
        bank_normals(data, manifest)


def test_real_bottle(shared: Path, tmp_path: Path) -> None:
    """Real images at 256 px: all promises hold, and the anomalies vary in size."""
    root = shared / "data" / "real"
    out = tmp_path / "out"
    manifest = build(root, out, categories=["bottle"], per_normal=1)
    assert len(manifest["heldout_train"]) == 53  # ceil(209 / 4)
    assert len(bank_normals(root, manifest)["bottle"]) == 209 - 53
    shares = []
    for entry in manifest["images"]:
        if entry["label"]:
            background = read_rgb(root / entry["source_files"][0])
            image = read_rgb(out / entry["path"])
            mask = read_mask(out / entry["mask"], (256, 256))
            changed = (image != background).any(axis=2)
            assert not changed[~mask].any() and changed[mask].mean() >= 0.9
            assert np.abs(image.astype(int) - background)[mask].mean() >= 8
            shares.append(mask.mean())
    assert max(shares) > 8 * min(shares)
