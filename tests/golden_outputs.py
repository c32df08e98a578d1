"""Golden outputs: what the commands made when it was recorded, and what they make now.

    python tests/golden_outputs.py record    # writes tests/golden/*.json anew

Record them again only for a change that is meant to change results, and say so in its commit.
"""

import json
import platform
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

FOLDER = Path(__file__).parent / "golden"
GENERATORS = ("lafite", "cutpaste-scar", "cutpaste", "cutpaste-3way", "nsa", "perlin", "mix")
SMALL = ("features.image_size=64", "features.grid=8", "unet.base_channels=16",
         "unet.multipliers=1,2", "diffusion.sampling_steps=4", "score.pool=8",
         "score.standardise=position")  # fmt: skip


def command(*arguments: object) -> None:
    """One command of pseudoval."""
    from pseudoval.cli.commands import run

    texts = [str(argument) for argument in arguments]
    assert run(texts) == 0, texts


def machine() -> dict[str, str]:
    """What the bytes of a set and the last digits of a score depend on beside the code."""
    import albumentations
    import cv2
    import PIL

    return {
        "albumentations": albumentations.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        "torch": torch.__version__,
    }


def make_tiny(root: Path) -> dict[str, Any]:
    """A set of every generator, and every step with LafitE and with nearest neighbours, tiny."""
    data = render(root, train=9, test_good=4, defects_per_kind=1, size=64)
    for name in GENERATORS:
        more = ["--foreground", "auto"] if name == "lafite" else []
        command("build", data, "--out", root / name, "--generator", name, *more)
    changed = [f"--set={text}" for text in
               ("opacity=0.5,1", "scale=0.7", "blending=feather", "jitter=0.2")]  # fmt: skip
    command(
        "build", data, "--out", root / "changed", "--generator", "lafite", "--seed", 3, *changed
    )
    command("audit", root / "lafite", "--data", data, "--out", root / "audit")
    model = ["--preset", "demo", *[f"--set={text}" for text in SMALL], "--no-cache"]
    command("train", data, "--pseudo", root / "lafite", "--out", root / "model", "--epochs", 20,
            *model)  # fmt: skip
    command("tune", "--model", root / "model", "--pseudo", root / "lafite", "--out", root / "run",
            "--t", "25,100,300,900", "--k", "1,2,4,8")  # fmt: skip
    command("tune", "--model", root / "model", "--pseudo", root / "lafite", "--pseudo",
            root / "perlin", "--out", root / "joint", "--study", "joint", "--t", "100,300",
            "--k", "1,4", "--rule", "margin", "--repeats", 2)  # fmt: skip
    command("train", data, "--pseudo", root / "lafite", "--out", root / "bank", "--detector", "knn",
            "--per-category", *model)  # fmt: skip
    command("tune", "--model", root / "bank", "--pseudo", root / "lafite", "--out", root / "levels",
            "--study", "stages_then_k")  # fmt: skip
    for run in ("run", "levels"):
        command("evaluate", root / run, data)
        command("report", root / run)
    sets = {name: pseudo_set(root / name) for name in (*GENERATORS, "changed")}
    runs = {name: one_run(root / name) for name in ("run", "joint", "levels")}
    return {
        "sets": sets,
        "runs": runs,
        "audit": json.loads((root / "audit/audit.json").read_text()),
    }


def make_demo(root: Path) -> dict[str, Any]:
    """The demo with seed 0."""
    torch.set_num_threads(1)
    command("demo", "--out", root / "demo")
    return {
        "sets": {"pseudo": pseudo_set(root / "demo/pseudo")},
        "runs": {"run": one_run(root / "demo/run")},
    }


def render(root: Path, **sizes: int) -> Path:
    """Two rendered categories below ``root/data``."""
    from pseudoval.demo import render_dataset

    data = root / "data"
    data.mkdir()
    render_dataset(data, seed=0, categories=["fabric", "flange"], **sizes)
    return data


def pseudo_set(folder: Path) -> dict[str, Any]:
    """The split, and the hash of every image and mask of a set."""
    from pseudoval.data.files import sha256_file

    manifest = json.loads((folder / "manifest.json").read_text())
    files = [one[key] for one in manifest["images"] for key in ("path", "mask") if one[key]]
    return {
        "split_sha256": manifest["split_sha256"],
        "files": {name: sha256_file(folder / name)[:16] for name in files},
    }


def one_run(folder: Path) -> dict[str, Any]:
    """Everything that a RUN says: choices, score matrices, results and findings."""
    found = {
        name: json.loads((folder / name).read_text())
        for name in ("best.json", "figures.json", "report/correlation.json")
        if (folder / name).exists()
    }
    found["scores"] = {
        path.relative_to(folder).as_posix(): score_matrix(path)
        for path in sorted(folder.rglob("*_scores.npz"))
    }
    return found


def score_matrix(path: Path) -> dict[str, Any]:
    """The arrays of a score matrix as JSON."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name].tolist() for name in arrays.files if name != "header"}


PASSED_OVER = ("sha256", "models", "text", "bootstrap", "generator", "calibration", "reason")
"""Values of keys that end like this are hashes of weights, sentences, or a generator's options."""


def differences(recorded: Any, found: Any, tolerance: float, place: str = "") -> list[str]:
    """Where ``found`` lacks or contradicts what was recorded; what it has beyond that is no matter.

    Numbers may differ by ``tolerance``. Hashes of models are passed over, those of images are not.
    """
    if isinstance(recorded, Mapping) and isinstance(found, Mapping):
        return [
            line
            for key, value in recorded.items()
            if not key.endswith(PASSED_OVER) or key in ("split_sha256", "by_generator")
            for line in differences(value, found.get(key, "missing"), tolerance, f"{place}/{key}")
        ]
    if isinstance(recorded, list) and isinstance(found, list) and len(recorded) == len(found):
        pairs = enumerate(zip(recorded, found, strict=True))
        return [
            line for row, (a, b) in pairs for line in differences(a, b, tolerance, f"{place}/{row}")
        ]
    if isinstance(recorded, float | int) and isinstance(found, float | int):
        both_nan = recorded != recorded and found != found
        if both_nan or abs(recorded - found) <= tolerance:
            return []
    return [] if recorded == found else [f"{place}: {recorded!r} was recorded, {found!r} is found"]


MAKERS = {"tiny": make_tiny, "demo": make_demo}


def main() -> None:
    """Record all golden outputs."""
    assert sys.argv[1:] == ["record"], __doc__
    FOLDER.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    for name, make in MAKERS.items():
        with tempfile.TemporaryDirectory() as folder:
            content = {"machine": machine(), **make(Path(folder))}
        (FOLDER / f"{name}.json").write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()
