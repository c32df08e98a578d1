"""audit: what it finds in a set, and what it leaves alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import contents, make_data, refused, texture
from PIL import Image

from pseudoval.audit.audit import audit
from pseudoval.cli.commands import run
from pseudoval.data.images import read_mask, read_rgb
from pseudoval.errors import UserError
from pseudoval.pseudo_set.build import build
from pseudoval.pseudo_set.manifest import load_manifest


def read(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "audit.json").read_text()))


@pytest.fixture(scope="module")
def audited(road: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The audit of the road's set with its model and its data, by the command."""
    out = tmp_path_factory.mktemp("audited") / "audit"
    before = contents(road / "pseudo")
    arguments = ["audit", str(road / "pseudo"), "--data", str(road / "data")]
    assert run([*arguments, "--model", str(road / "model"), "--out", str(out)]) == 0
    assert contents(road / "pseudo") == before
    return out


@pytest.fixture
def pseudo(data: Path, tmp_path: Path) -> Path:
    """A set of two categories of textures, an anomaly for each held-out normal."""
    build(data, tmp_path / "pseudo", per_normal=1)
    return tmp_path / "pseudo"


def test_what_the_command_leaves(audited: Path, road: Path) -> None:
    files = {name for name in contents(audited) if not name.startswith(".")}
    assert files == {"audit.json", "audit.html", "sheets/fabric.png", "sheets/flange.png"}
    found, manifest = read(audited), load_manifest(road / "pseudo")
    assert found["split_sha256"] == manifest["split_sha256"]
    assert found["reference"]["from"] == "model"
    assert found["reference"]["backbone"] == "filterbank"
    assert [row["path"] for row in found["images"]] == [e["path"] for e in manifest["images"]]
    for name, figures in found["categories"].items():
        rows = [row for row in found["images"] if row["category"] == name]
        anomalies = [row for row in rows if row["label"] == 1]
        assert (figures["normals"], figures["anomalies"]) == (len(rows) - len(anomalies), 3)
        assert figures["empty"] == figures["invisible"] == figures["changed_outside"] == 0
        assert figures["near_duplicates"]["exact_copies"] == 0
        sheet = read_rgb(audited / figures["sheet"])
        assert sheet.std() > 20


def test_figures_are_those_of_the_files(audited: Path, road: Path) -> None:
    found = read(audited)
    row = next(row for row in found["images"] if row["label"] == 1)
    entry = next(e for e in load_manifest(road / "pseudo")["images"] if e["path"] == row["path"])
    image = read_rgb(road / "pseudo" / entry["path"]).astype(float)
    below = read_rgb(road / "data" / entry["source_files"][0]).astype(float)
    mask = read_mask(road / "pseudo" / entry["mask"], image.shape[:2])
    change = np.abs(image - below)
    assert row["area"] == pytest.approx(mask.mean(), abs=1e-6)
    assert row["visibility"] == pytest.approx(change[mask].mean(), abs=1e-6)
    assert row["outside"] == 0
    assert row["floor"] <= row["visibility"]


def test_difficulty_is_the_auroc_of_its_own_scores(audited: Path) -> None:
    found = read(audited)
    for name, figures in found["categories"].items():
        rows = [row for row in found["images"] if row["category"] == name]
        normal = np.array([row["score"] for row in rows if row["label"] == 0])
        wins = [
            np.mean((row["score"] > normal) + 0.5 * (row["score"] == normal))
            for row in rows
            if row["label"] == 1
        ]
        assert figures["image_auroc"] == pytest.approx(np.mean(wins), abs=1e-5)
        ranks = [row["score_rank"] for row in rows if row["label"] == 1]
        assert ranks == pytest.approx(wins, abs=1e-5)
    aurocs = [figures["image_auroc"] for figures in found["categories"].values()]
    assert found["image_auroc"] == pytest.approx(np.mean(aurocs), abs=1e-6)


def test_with_a_model_the_scores_are_those_of_knn(
    audited: Path, road: Path, tmp_path: Path
) -> None:
    """The reference with a MODEL is the ``knn`` detector at K = 1 on the same model."""
    from lafite_core.model import LafiteModel
    from pseudoval.detectors.knn import KnnDetector

    model = LafiteModel.load(road / "model")
    rows = read(audited)["images"][:4]
    images = [read_rgb(road / "pseudo" / row["path"]) for row in rows]
    scores = KnnDetector(model, 0, road / "model").score_block(images, [{"k": 1}]).scores[0]
    assert [row["score"] for row in rows] == pytest.approx(scores.tolist(), abs=1e-5)


def test_the_same_input_gives_the_same_bytes(
    audited: Path, road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / "again"
    arguments = ["audit", str(road / "pseudo"), "--data", str(road / "data")]
    assert run([*arguments, "--model", str(road / "model"), "--out", str(again)]) == 0
    assert contents(again) == contents(audited)
    printed = capsys.readouterr().out
    assert "fabric" in printed and "mean image AUROC" in printed and "audit.html" in printed
    (again / "sheets" / "old.png").write_bytes(b"of another set")
    assert run([*arguments, "--model", str(road / "model"), "--out", str(again)]) == 0
    assert contents(again) == contents(audited)


def test_alone_a_set_tells_what_it_can(pseudo: Path, tmp_path: Path) -> None:
    found = audit(pseudo, tmp_path / "audit")
    assert found["image_auroc"] is None and "--model" in found["reference_reason"]
    assert "--data" in found["near_duplicates_reason"]
    figures = found["categories"]["a"]
    assert figures["image_auroc"] is None and figures["near_duplicates"] is None
    assert figures["visibility"]["count"] == figures["anomalies"] == figures["area"]["count"]
    assert figures["foreground"]["kind"] == "texture" and figures["on_object"] is None


def test_data_give_a_bank_sources_and_duplicates(data: Path, pseudo: Path, tmp_path: Path) -> None:
    alone = audit(pseudo, tmp_path / "alone")
    found = audit(pseudo, tmp_path / "audit", data=data)
    assert found["reference"]["from"] == "normals" and found["reference"]["images"]["a"] == 6
    assert 0 <= found["image_auroc"] <= 1
    assert found["categories"]["a"]["near_duplicates"]["with_training"] == 0
    assert found["near_duplicates_reason"] is None and alone["near_duplicates_reason"]
    # A column more: the source.
    widths = [read_rgb(tmp_path / f / "sheets" / "a.png").shape[1] for f in ("alone", "audit")]
    assert widths[1] > widths[0]


def test_a_repeat_in_training_is_counted(tmp_path: Path) -> None:
    """One normal saved again as JPEG, on the other side of the split."""
    data = make_data(tmp_path / "data", "a", count=10)
    manifest = build(data, tmp_path / "first", per_normal=1)
    held = data / manifest["heldout_train"][0]
    # The split goes by content, so try a few qualities until the repeat is trained on.
    again = data / "a" / "train" / "good" / "again.jpg"
    for quality in range(95, 60, -5):
        Image.open(held).save(again, quality=quality)
        shutil.rmtree(tmp_path / "first")
        manifest = build(data, tmp_path / "first", per_normal=1)
        if (again.name in str(manifest["heldout_train"])) != (
            held.name in str(manifest["heldout_train"])
        ):
            break
    else:
        pytest.fail("every repeat fell on the side of its twin")
    near = audit(tmp_path / "first", tmp_path / "audit", data=data)["categories"]["a"][
        "near_duplicates"
    ]
    assert near["with_training"] == 1 and near["within_held_out"] == 0
    pair = near["pairs"][0]
    assert {Path(pair["held_out"]).name, Path(pair["other"]).name} == {held.name, again.name}
    assert pair["side"] == "training" and pair["correlation"] > 0.9


def broken(pseudo: Path, change: str) -> None:
    """Spoil the first anomaly of a set in one way."""
    manifest = load_manifest(pseudo)
    entry = next(entry for entry in manifest["images"] if entry["label"] == 1)
    image, mask = pseudo / entry["path"], pseudo / entry["mask"]
    pixels = read_rgb(image)
    if change == "empty":
        Image.fromarray(np.zeros(pixels.shape[:2], np.uint8)).save(mask)
    elif change == "invisible":
        shutil.copyfile(pseudo / entry["group"], image)
    elif change == "changed_outside":
        outside = ~read_mask(mask, (pixels.shape[0], pixels.shape[1]))
        y, x = np.argwhere(outside)[0]
        pixels[y, x] ^= 1
        Image.fromarray(pixels).save(image)


@pytest.mark.parametrize("change", ["empty", "invisible", "changed_outside"])
def test_a_spoilt_anomaly_is_reported(pseudo: Path, tmp_path: Path, change: str) -> None:
    assert not [w for w in audit(pseudo, tmp_path / "before")["warnings"] if w["code"] == change]
    broken(pseudo, change)
    found = audit(pseudo, tmp_path / "audit")
    assert found["categories"]["a"][change] == 1 and found["categories"]["b"][change] == 0
    warned = [w["category"] for w in found["warnings"] if w["code"] == change]
    assert warned == ["a"]


def test_anomalies_made_elsewhere_have_no_background(
    data: Path, pseudo: Path, tmp_path: Path
) -> None:
    path = pseudo / "manifest.json"
    manifest = json.loads(path.read_text())
    first: dict[str, str] = {}
    for entry in manifest["images"]:
        if entry["label"] == 1:
            # Copies share the group of the first, as ``build --generator external`` has it.
            entry["group"] = first.setdefault(entry["category"], entry["path"])
            entry["source_files"] = []
            entry["generator"] = "external"
    path.write_text(json.dumps(manifest))
    found = audit(pseudo, tmp_path / "audit", data=data)
    figures = found["categories"]["a"]
    assert figures["visibility"] is None and figures["invisible"] == 0
    assert figures["area"]["count"] == 2 and figures["image_auroc"] is not None
    assert list(found["by_generator"]) == ["external"]


def test_the_parts_of_a_mixture_are_told_apart(data: Path, pseudo: Path, tmp_path: Path) -> None:
    path = pseudo / "manifest.json"
    manifest = json.loads(path.read_text())
    anomalies = [entry for entry in manifest["images"] if entry["label"] == 1]
    for number, entry in enumerate(anomalies):
        entry["generator"] = ("lafite", "perlin")[number % 2]
    path.write_text(json.dumps(manifest))
    found = audit(pseudo, tmp_path / "audit", data=data)
    parts = found["by_generator"]
    assert [parts[name]["anomalies"] for name in ("lafite", "perlin")] == [2, 2]
    both = [parts[name]["image_auroc"] for name in parts]
    assert np.mean(both) == pytest.approx(found["image_auroc"], abs=1e-5)


def test_what_contradicts_itself_is_refused(
    road: Path, data: Path, pseudo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, model = ["--out", str(tmp_path / "audit")], str(road / "model")
    refused(capsys, ["audit", str(tmp_path / "none"), *out], "There is no pseudo set at")
    refused(capsys, ["audit", str(pseudo), "--out", str(pseudo / "audit")], "lies inside")
    with_data = [*out, "--data", str(data)]
    refused(capsys, ["audit", str(pseudo), *out, "--backbone", "filterbank"], "add --data DATA")
    refused(capsys, ["audit", str(pseudo), *with_data, "--weights", "x"], "with --backbone")
    refused(capsys, ["audit", str(pseudo), *out, "--model", model, "--backbone", "x"], "leave")
    refused(capsys, ["audit", str(pseudo), *out, "--model", model], "another split")
    refused(
        capsys,
        ["audit", str(pseudo), *with_data, "--backbone", "tf_efficientnet_b4", "--weights", "no"],
        "no weights file",
    )
    assert not (tmp_path / "audit").exists()


def test_a_category_that_the_model_does_not_know_is_refused(road: Path) -> None:
    from pseudoval.audit.reference import reference_of_model
    from pseudoval.models.open import open_detector

    detector = open_detector(road / "model", seed=None)
    split = load_manifest(road / "pseudo")["split_sha256"]
    with pytest.raises(UserError, match="not trained on category 'bottle'"):
        reference_of_model(detector, road / "model", ["bottle"], split)


def test_other_data_are_refused(pseudo: Path, tmp_path: Path) -> None:
    other = make_data(tmp_path / "other", "ab", count=9)
    shutil.rmtree(other / "a")
    shutil.copytree(other / "b", other / "a")
    with pytest.raises(UserError, match="held-out normal"):
        audit(pseudo, tmp_path / "audit", data=other)
    assert not (tmp_path / "audit").exists()


def test_a_set_of_external_anomalies(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "external" / "a"
    folder.mkdir(parents=True)
    for number in range(3):
        pixels = texture(900 + min(number, 1))  # two of them are copies
        mask = np.zeros(pixels.shape[:2], np.uint8)
        mask[10:20, 10:20] = 255
        pixels[mask > 0] = (250, 10, 10)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        Image.fromarray(mask).save(folder / f"{number}_mask.png")
    settings = {"folder": str(tmp_path / "external")}
    build(data, tmp_path / "set", categories=["a"], generator="external", settings=settings)
    found = audit(tmp_path / "set", tmp_path / "audit", data=data)
    figures = found["categories"]["a"]
    assert figures["anomalies"] == 3 and figures["visibility"] is None
    assert figures["area"]["median"] == pytest.approx(100 / 48**2, abs=1e-6)
    assert list(found["by_generator"]) == ["external"]
    assert figures["image_auroc"] is not None


def test_anomalies_lie_on_the_object_that_was_found(tmp_path: Path) -> None:
    """A disc on an even ground: with the foreground on it, without it anywhere."""
    data = tmp_path / "data"
    (data / "disc" / "train" / "good").mkdir(parents=True)
    for number in range(8):
        rng = np.random.default_rng(number)
        pixels = rng.normal(220, 2, (64, 64, 3))
        inside = np.hypot(*(np.mgrid[:64, :64] - np.array([30 + number % 4, 32])[:, None, None]))
        pixels[inside < 18] = rng.normal(90, 25, (int((inside < 18).sum()), 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(
            data / "disc" / "train" / "good" / f"{number}.png"
        )
    on: dict[str, Any] = {}
    for mode in ("auto", "none"):
        manifest = build(data, tmp_path / mode, per_normal=8, foreground=mode)
        found = audit(tmp_path / mode, tmp_path / f"audit-{mode}", data=data)
        assert found["categories"]["disc"]["foreground"]["kind"] == "object"
        on[mode] = found["categories"]["disc"]["on_object"]
        assert manifest["foreground"] == {"disc": "object" if mode == "auto" else "none"}
        far_off = [w for w in found["warnings"] if w["code"] == "off_object"]
        assert bool(far_off) == (mode == "none")
    assert on["auto"]["min"] >= 0.5 > on["none"]["median"]
