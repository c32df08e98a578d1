"""Pseudo sets: reproducible, from held-out normals only, whole or absent."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
from helpers import contents, make_data
from PIL import Image

from pseudoval import __version__
from pseudoval.data import dataset
from pseudoval.data.images import read_mask, read_rgb
from pseudoval.generators import DEFAULT_GENERATOR
from pseudoval.pseudo_set.build import build
from pseudoval.pseudo_set.manifest import bank_normals, load_manifest, pseudo_items

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


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_manifest_and_files_agree(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    returned = build(data, out, holdout=0.4, per_normal=3)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest == returned == load_manifest(out)
    assert manifest.keys() >= FIXED_KEYS
    assert manifest["format_version"] == 1 and manifest["package_version"] == __version__
    assert manifest["categories"] == ["a", "b"]
    assert manifest["generator"]["name"] == DEFAULT_GENERATOR == "cutpaste-scar"
    assert manifest["generator"]["parameters"]["width"] == [2, 16]
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
    masks_and_images = {name for name in one if f"/{DEFAULT_GENERATOR}/" in name}
    assert differing == masks_and_images | {"manifest.json"}


def test_split_depends_on_content_and_split_seed_only(data: Path, tmp_path: Path) -> None:
    first = build(data, tmp_path / "1")
    for i, options in enumerate(({"seed": 9}, {"settings": {"jitter": "0.2"}}, {"per_normal": 1})):
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
