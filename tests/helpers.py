"""What several test files build their input with."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image


def texture(seed: int, side: int = 48) -> np.ndarray:
    """A smooth random colour image, uint8 ``[side, side, 3]``."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(40, 210, (6, 6, 3)).astype(np.float32)
    return np.clip(cv2.resize(coarse, (side, side)), 0, 255).astype(np.uint8)


def make_data(root: Path, categories: str = "ab", count: int = 8) -> Path:
    """A data root with ``count`` textures in ``train/good`` of each category."""
    for number, category in enumerate(categories):
        folder = root / category / "train" / "good"
        folder.mkdir(parents=True)
        for i in range(count):
            Image.fromarray(texture(100 * number + i)).save(folder / f"{i:03}.png")
    return root


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too, by relative path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def copied(folder: Path, to: Path) -> Path:
    """A copy of a folder that tests share, without its cache, where another may be writing."""
    return Path(shutil.copytree(folder, to, ignore=shutil.ignore_patterns("cache")))


def with_options(arguments: list[str], *more: str, **values: object) -> list[str]:
    """A command with the values of some of its options replaced, and further arguments."""
    changed = [*arguments]
    for name, value in values.items():
        changed[changed.index(f"--{name}") + 1] = str(value)
    return [*changed, *more]


def road_commands(root: Path, data: str = "data") -> list[list[str]]:
    """The commands of the whole road in a folder, on a model that trains in seconds."""
    folder = {name: str(root / name) for name in ("pseudo", "model", "run")}
    small = ["features.image_size=64", "features.grid=8", "unet.base_channels=16",
             "unet.multipliers=1,2", "diffusion.sampling_steps=2", "score.pool=8"]  # fmt: skip
    return [
        ["build", str(root / data), "--out", folder["pseudo"], "--per-normal", "1"],
        ["train", str(root / data), "--pseudo", folder["pseudo"], "--out", folder["model"],
         "--preset", "demo", "--epochs", "3", *[a for s in small for a in ("--set", s)]],
        ["tune", "--model", folder["model"], "--pseudo", folder["pseudo"], "--out", folder["run"],
         "--t", "900,25,300", "--k", "1,4"],
        ["evaluate", folder["run"], str(root / data)],
        ["report", folder["run"]],
    ]  # fmt: skip


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str], what: str) -> None:
    """The command leaves with 2 and one sentence that contains ``what``."""
    from pseudoval.cli.commands import run

    capsys.readouterr()
    assert run(arguments) == 2
    message = capsys.readouterr().err.strip()
    assert what in message, message
    assert message.startswith("Error: ")
    assert "Traceback" not in message
    assert "\n" not in message


PLANNED_SEED = 5
"""One with which a leader of a flat curve is not the first value, else the tests say so."""


def planned_scores(
    monkeypatch: pytest.MonkeyPatch,
    pseudo: Path,
    plan: Callable[[dict, int, np.ndarray], float],
) -> None:
    """Let LafitE give the images of a pseudo set scores that the test knows, in no time.

    Args:
        plan: score of a configuration on an image of a label, with eight numbers, normally
            distributed, that belong to the image. They are drawn by its place in the set, because
            another version of OpenCV renders other pixels. Other images have made-up labels, and
            numbers drawn by their pixels.
    """
    from pseudoval.data.images import read_rgb
    from pseudoval.detectors import Block
    from pseudoval.detectors.lafite import LafiteDetector
    from pseudoval.pseudo_set.manifest import load_manifest, pseudo_items

    def key(image: np.ndarray) -> int:
        return int.from_bytes(hashlib.sha256(image.tobytes()).digest()[:6], "big")

    items = pseudo_items(pseudo, load_manifest(pseudo))
    known = {key(read_rgb(item.path)): (place, item.label) for place, item in enumerate(items)}

    def score_block(self: object, images: list[np.ndarray], configs: list[dict]) -> Block:
        keys = [key(image) for image in images]
        placed = [known.get(one, (one, one % 2)) for one in keys]
        known_images = [
            (label, np.random.default_rng([PLANNED_SEED, place]).standard_normal(8))
            for place, label in placed
        ]
        scores = np.array([[plan(config, *image) for image in known_images] for config in configs])
        rng = np.random.default_rng(keys[0])
        coarse = rng.random((len(configs), len(images), 8, 8)).astype(np.float32)
        return Block(scores=scores, coarse=coarse)

    monkeypatch.setattr(LafiteDetector, "score_block", score_block)
