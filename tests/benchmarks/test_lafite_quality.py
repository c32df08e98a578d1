"""The quality benchmark runs from a folder alone, in parts, without the libraries of the study."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import lafite_quality

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
WITHOUT = ("faiss", "optuna", "albumentations")
START = f"""
import json, sys; sys.path.insert(0, {str(BENCHMARKS)!r})
for name in {WITHOUT}: sys.modules[name] = None
import lafite_quality
print([lafite_quality.main(arguments) for arguments in json.loads(sys.argv[1])])
"""
"""One process for several commands, since each would load torch again."""
SMALL = ["features.image_size=64", "features.grid=8", "unet.base_channels=16",
         "unet.multipliers=1,2", "unet.attention_levels=1", "diffusion.sampling_steps=1",
         "score.pool=8"]  # fmt: skip


@pytest.fixture(scope="module")
def packed(road: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "folder"
    assert lafite_quality.main(["pack", str(road / "data"), "--to", str(folder)]) == 0
    return folder


def test_a_packed_folder_holds_jpeg_images_masks_and_a_pseudo_set(packed: Path) -> None:
    images = {path.suffix for path in (packed / "data" / "fabric" / "test").rglob("*.*")}
    assert images == {".jpg"}
    assert list((packed / "data" / "fabric" / "ground_truth").rglob("*_mask.png"))
    assert (packed / "pseudo" / "manifest.json").exists()


def test_it_stops_in_time_goes_on_and_reports(packed: Path, tmp_path: Path) -> None:
    none, out = tmp_path / "none.json", tmp_path / "quality.json"
    small = [part for option in SMALL for part in ("--set", option)]
    arguments = ["run", str(packed), "--preset", "demo", "--epochs", "6", *small,
                 "--work", str(tmp_path / "work"), "--out"]  # fmt: skip
    commands = [[*arguments, str(none), "--minutes", "0"], [*arguments, str(out)]]
    done = subprocess.run(
        [sys.executable, "-c", START, json.dumps(commands)], capture_output=True, text=True,
        timeout=300, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[3, 0]", done.stderr
    assert "the same command goes on" in done.stderr
    assert not none.exists()
    assert out.with_suffix(".png").read_bytes()[1:4] == b"PNG"
    found = json.loads(out.read_text())
    assert {"figures", "checks", "versions", "device", "seed", "command"} <= set(found)
    assert found["report"]["categories"] == ["fabric", "flange"]
    lafite = found["report"]["detectors"]["lafite"]
    assert [stage["param"] for stage in lafite["stages"]] == ["t", "k"]
    assert lafite["params"]["t"] == lafite["stages"][0]["selected"]
    assert set(lafite["variants"]) == {"with editing", "without editing"}
    rows = lafite["variants"]["with editing"]["per_category"]
    assert all(0 <= value <= 1 for row in rows.values() for value in row.values())
    mean = sum(row["image_auroc"] for row in rows.values()) / 2
    assert found["figures"]["image_auroc_mean"]["ours"] == pytest.approx(mean)
    assert found["figures"]["training_flops"]["ours"] > 0
    gaps = found["checks"]["lafite_minus_knn"]
    assert found["checks"]["lafite_at_least_knn_minus_margin"] == (min(gaps.values()) >= -0.01)
