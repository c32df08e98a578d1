"""Sets by every generator: the same whatever the workers, completed after a full disk, and made
of images of every kind."""

import errno
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import contents, make_data, texture
from PIL import Image

from pseudoval.cli.commands import run
from pseudoval.data.images import read_mask, read_rgb
from pseudoval.errors import UserError
from pseudoval.pseudo_set import make as pseudo_make
from pseudoval.pseudo_set.build import build
from pseudoval.pseudo_set.manifest import bank_normals, load_manifest, pseudo_items

ALL = "lafite,cutpaste,cutpaste-scar,cutpaste-3way,nsa,perlin,external"


def make_external(root: Path, categories: str = "ab", count: int = 3) -> Path:
    """Images with masks beside them, of another size than the normals."""
    for category in categories:
        folder = root / category
        folder.mkdir(parents=True)
        for i in range(count):
            image, mask = texture(900 + i + ord(category), 40), np.zeros((40, 40), np.uint8)
            mask[5 : 9 + i, 6:20] = 255
            Image.fromarray(image).save(folder / f"{i}.png")
            Image.fromarray(mask).save(folder / f"{i}_mask.png")
    return root


def check(data: Path, out: Path, manifest: dict[str, Any]) -> None:
    """Every anomaly differs from its normal inside its mask, and nowhere else."""
    assert any(entry["label"] for entry in manifest["images"])
    for entry in manifest["images"]:
        if entry["label"] and entry["source_files"]:
            background = read_rgb(data / entry["source_files"][0])
            image = read_rgb(out / entry["path"])
            mask = read_mask(out / entry["mask"], image.shape[:2])
            changed = (image != background).any(axis=2)
            assert changed[mask].any() and not changed[~mask].any()


def test_a_mixture_of_all_is_the_same_whatever_the_workers(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", count=12)
    external = make_external(tmp_path / "external")
    settings = {"weights": ALL, "external.folder": str(external)}
    options: dict[str, Any] = {"generator": "mix", "settings": settings, "per_normal": 8}
    out = tmp_path / "alone"
    manifest = build(data, out, holdout=0.4, **options)
    build(data, tmp_path / "shared", workers=3, holdout=0.4, **options)
    assert contents(out) == contents(tmp_path / "shared")
    check(data, out, manifest)
    makers = Counter(entry.get("generator") for entry in manifest["images"])
    assert makers.keys() == {None, *ALL.split(",")} and makers["external"] == 6
    for entry in manifest["images"]:
        assert Path(entry["path"]).parent.name == entry.get("generator", "good")
    assert str(tmp_path) not in (out / "manifest.json").read_text()
    assert [item.group for item in pseudo_items(out)]
    plain = build(data, tmp_path / "plain", holdout=0.4)
    assert plain["split_sha256"] == manifest["split_sha256"]


def test_anomalies_on_one_normal_have_different_sources(data: Path, tmp_path: Path) -> None:
    manifest = build(data, tmp_path / "out", holdout=0.5, per_normal=5)
    sources: dict[str, list[str]] = {}
    for entry in manifest["images"]:
        if entry["label"]:
            background, source = entry["source_files"]
            sources.setdefault(background, []).append(source)
            assert Path(entry["group"]).name == Path(background).name
    assert len(sources) == 8
    for background, used in sources.items():
        assert len(set(used[:3])) == 3 and set(used[3:]) <= set(used[:3])
        assert background not in used
    fewer = build(data, tmp_path / "fewer", holdout=0.5, per_normal=2)
    known = {entry["path"]: entry["sha256"] for entry in manifest["images"]}
    assert all(known[entry["path"]] == entry["sha256"] for entry in fewer["images"])


@pytest.mark.parametrize("generator", ["lafite", "mix"])
def test_a_full_disk_leaves_a_set_that_the_same_command_completes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generator: str
) -> None:
    build(data, tmp_path / "whole", generator=generator)
    out, write, written = tmp_path / "out", pseudo_make.write_png, []

    def full(path: Path, array: np.ndarray) -> None:
        if len(written) == 7:
            path.parent.mkdir(parents=True, exist_ok=True)
            (path.parent / f".{path.stem}.1.tmp.png").write_bytes(b"ha")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written.append(path)
        write(path, array)

    monkeypatch.setattr(pseudo_make, "write_png", full)
    with pytest.raises(UserError, match=r"not finished: .*No space left.* same command again"):
        build(data, out, generator=generator)
    assert len([path for path in written if path.is_file()]) == 7
    monkeypatch.setattr(pseudo_make, "write_png", write)
    build(data, out, generator=generator)
    assert contents(out) == contents(tmp_path / "whole")


def test_a_disk_that_was_full_from_the_start_leaves_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, value: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("pseudoval.pseudo_set.build.write_json", full)
    with pytest.raises(UserError, match="No space left"):
        build(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def save_all(folder: Path, count: int, make: Any) -> Path:
    folder = folder / "a" / "train" / "good"
    folder.mkdir(parents=True)
    for i in range(count):
        make(texture(i, 48), folder / f"{i}.png")
    return folder.parents[2]


def as_16_bit(image: np.ndarray, path: Path) -> None:
    Image.fromarray(image[..., 0].astype(np.uint16) * 257).save(path)


def with_alpha(image: np.ndarray, path: Path) -> None:
    alpha = np.where(np.arange(48)[:, None] < 20, 0, 255) * np.ones((48, 48))
    Image.fromarray(np.dstack([image, alpha.astype(np.uint8)])).save(path)


def as_grey(image: np.ndarray, path: Path) -> None:
    Image.fromarray(image[..., 0]).save(path)


def of_any_size(image: np.ndarray, path: Path) -> None:
    side = 20 + 11 * int(path.stem)
    Image.fromarray(image).resize((side, 70)).save(path)


def tiny(image: np.ndarray, path: Path) -> None:
    Image.fromarray(image).resize((16, 17)).save(path)


@pytest.mark.parametrize("save", [as_16_bit, with_alpha, as_grey, of_any_size, tiny])
@pytest.mark.parametrize("generator", ["lafite", "mix"])
def test_images_of_every_kind(tmp_path: Path, save: Any, generator: str) -> None:
    """Anomalies are 8-bit RGB and compare with their normals as ``read_rgb`` reads both."""
    data, out = save_all(tmp_path / "data", 6, save), tmp_path / "out"
    manifest = build(data, out, generator=generator, holdout=0.5)
    check(data, out, manifest)
    for entry in manifest["images"]:
        if entry["label"]:
            assert Image.open(out / entry["path"]).mode == "RGB"
        else:
            assert (out / entry["path"]).read_bytes() == (
                data / entry["source_files"][0]
            ).read_bytes()


def test_identical_and_too_small_normals(tmp_path: Path) -> None:
    data = save_all(tmp_path / "data", 6, lambda i, p: Image.fromarray(texture(0)).save(p))
    with pytest.raises(UserError, match="has 6 normal images, 1 of them distinct"):
        build(data, tmp_path / "out")
    small = save_all(tmp_path / "small", 6, lambda i, p: Image.fromarray(i[:9, :9].copy()).save(p))
    with pytest.raises(UserError, match=r"No anomaly can be made .*cutpaste-scar: .*9x9 pixels"):
        build(small, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_foregrounds(data: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    for path in sorted(data.glob("*/train/good/*.png")):
        folder = masks / path.parts[-4]
        folder.mkdir(parents=True, exist_ok=True)
        mask = np.zeros((48, 48), np.uint8)
        mask[24:, 8:40] = 255
        Image.fromarray(mask).save(folder / path.name)
    out = tmp_path / "out"
    settings = {"min_overlap": "1", "jitter": "0"}
    manifest = build(data, out, settings=settings, foreground=masks)
    assert manifest["foreground"] == {"a": "given", "b": "given"}
    for item in pseudo_items(out):
        if item.label:
            assert item.mask_path is not None
            assert not read_mask(item.mask_path, (48, 48))[:24].any()
    build(data, tmp_path / "two", settings=settings, foreground=masks, workers=2)
    assert contents(out) == contents(tmp_path / "two")
    with pytest.raises(UserError, match="foreground was"):
        build(data, out, settings=settings)
    assert build(data, tmp_path / "none")["foreground"] == {"a": "none", "b": "none"}


def spoil(root: Path, what: str) -> str:
    image, mask = root / "b" / "1.png", root / "b" / "1_mask.png"
    if what == "missing":
        mask.unlink()
        return r"1\.png has no mask; expected .*1_mask\.png"
    if what == "category":
        (root / "b").rename(root / "c")
        return "has no folder 'b'"
    if what == "none":
        for path in (root / "b").iterdir():
            path.unlink()
        return "no anomalous image in"
    if what == "size":
        Image.new("L", (41, 40), 255).save(mask)
        return r"1_mask\.png is 41x40 pixels, its image 40x40"
    if what == "grey":
        Image.fromarray(np.arange(1600, dtype=np.uint16).reshape(40, 40).astype(np.uint8)).save(
            mask
        )
        return r"1_mask\.png is not binary: it has 256 values, 0 to 255"
    if what == "empty":
        Image.new("L", (40, 40)).save(mask)
        return r"1_mask\.png is empty"
    if what == "broken":
        image.write_bytes(image.read_bytes()[:99])
        return r"1\.png is damaged"
    if what == "normal":
        Image.fromarray(texture(103)).save(image)
        Image.new("L", (48, 48), 255).save(mask)
        return r"1\.png is a copy of the normal b/train/good/003\.png"
    raise AssertionError(what)


@pytest.mark.parametrize(
    "what",
    ["missing", "category", "none", "size", "grey", "empty", "broken", "normal"],
)
def test_bad_external_folders(data: Path, tmp_path: Path, what: str) -> None:
    external = make_external(tmp_path / "external")
    match = spoil(external, what)
    for generator, setting in (("external", "folder"), ("mix", "external.folder")):
        settings = {setting: str(external)}
        if generator == "mix":
            settings["weights"] = "lafite,external"
        with pytest.raises(UserError, match=match):
            build(data, tmp_path / "out", generator=generator, settings=settings)
    assert not (tmp_path / "out").exists()


def test_external_anomalies_are_taken_as_they_are(data: Path, tmp_path: Path) -> None:
    external, out = tmp_path / "external", tmp_path / "out"
    for category in "ab":  # the MVTec layout, with one picture twice
        make_external(tmp_path / "flat", category)
        for i, defect in enumerate(("cut", "cut", "hole", "good")):
            source = tmp_path / "flat" / category / f"{min(i, 2) % 2}.png"
            image = external / category / "test" / defect / f"{i}.png"
            mask = external / category / "ground_truth" / defect / f"{i}_mask.png"
            for path, content in ((image, source), (mask, source.with_stem(source.stem + "_mask"))):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read_bytes())
    options: dict[str, Any] = {"generator": "external", "settings": {"folder": str(external)}}
    manifest = build(data, out, **options)
    anomalies = [entry for entry in manifest["images"] if entry["label"]]
    assert [entry["path"] for entry in anomalies if entry["category"] == "a"] == [
        f"a/test/external/{name}.png" for name in ("cut_0", "cut_1", "hole_2")
    ]
    for entry in anomalies:
        assert entry["source_files"] == []
        for name, original in zip(
            (entry["path"], entry["mask"]), entry["external_files"], strict=True
        ):
            assert (out / name).read_bytes() == (external / original).read_bytes()
    groups = [entry["group"] for entry in anomalies if entry["category"] == "a"]
    assert groups[0] == groups[2] != groups[1]  # the same picture
    assert load_manifest(out) == manifest and bank_normals(data, manifest)
    build(data, tmp_path / "two", workers=2, **options)
    assert contents(out) == contents(tmp_path / "two")
    (external / "a" / "test" / "cut" / "0.png").write_bytes(
        (external / "a" / "test" / "cut" / "1.png").read_bytes()
    )
    with pytest.raises(UserError, match=r"folder\.sha256 was"):
        build(data, out, **options)


def test_pairs_of_one_category_need_no_folder_of_it(data: Path, tmp_path: Path) -> None:
    external = make_external(tmp_path / "external", "a") / "a"
    manifest = build(data, tmp_path / "out", categories=["a"], generator="external",
                     settings={"folder": str(external)})  # fmt: skip
    assert sum(entry["label"] for entry in manifest["images"]) == 3


def test_real_test_images_are_no_external_anomalies(data: Path, tmp_path: Path) -> None:
    make_external(data / "defects")
    for folder in (data, data / "defects", tmp_path):
        with pytest.raises(UserError, match="must not take images of the real test set"):
            build(data, tmp_path / "out", generator="external", categories=["a"],
                  settings={"folder": str(folder)})  # fmt: skip


def test_the_command(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["build", str(data), "--out", str(tmp_path / "out"), "--generator", "mix"]
    chosen = ["--set", "weights=nsa:2,perlin", "--set", "perlin.threshold=0.4"]
    assert run([*command, *chosen, "--foreground", "none", "--per-normal", "3"]) == 0
    manifest = load_manifest(tmp_path / "out")
    assert manifest["generator"]["parameters"]["perlin"]["threshold"] == 0.4
    assert "pseudo anomalies" in capsys.readouterr().out
    assert run([*command, "--set", "weights=what"]) == 2
    assert "cannot mix 'what'" in capsys.readouterr().err
