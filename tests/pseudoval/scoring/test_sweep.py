import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pseudoval.data.dataset import ImageItem
from pseudoval.data.images import write_png
from pseudoval.detectors.protocol import Block
from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import Config
from pseudoval.scoring import blocks as sweep
from pseudoval.scoring.blocks import ScoreBlock, forget_blocks
from pseudoval.scoring.matrices import score_images
from pseudoval.scoring.pixels import PixelFigures
from pseudoval.tasks import SharedFolder, Workers, Written

CONFIGS = [{"k": 1}, {"k": 2}]


class Brightness:
    """A detector without a model: the anomaly map is the image's red channel, times k."""

    name = "brightness"
    seed = 0
    has_maps = True
    scores_in_maps = True

    def __init__(self) -> None:
        self.calls = 0

    def of(self, category: str) -> "Brightness":
        return self

    def check(self, config: Config) -> None:
        pass

    def score_block(self, images: Sequence[np.ndarray], configs: Sequence[Config]) -> Block:
        self.calls += 1
        maps = np.stack([[float(c["k"]) * i[..., 0] for i in images] for c in configs])
        return Block(scores=maps.max((2, 3)).astype(np.float64), coarse=maps.astype(np.float32))

    def render(self, coarse: np.ndarray) -> np.ndarray:
        return coarse

    def provenance(self) -> dict[str, object]:
        return {"detector": self.name, "seed": self.seed}


@pytest.fixture
def items(tmp_path: Path) -> list[ImageItem]:
    """20 images of each class: a bright square where the mask says so."""
    made = []
    for number in range(40):
        image = np.full((8, 8, 3), 40 + number, dtype=np.uint8)
        mask = np.zeros((8, 8), dtype=bool)
        if number % 2:
            mask[2:4, 3:6] = True
            image[mask] = 200
        path, mask_path = tmp_path / f"{number}.png", tmp_path / f"{number}_mask.png"
        write_png(path, image)
        write_png(mask_path, mask.astype(np.uint8) * 255)
        made.append(
            ImageItem(
                id=path.name,
                path=path,
                category="a" if number < 20 else "b",
                label=number % 2,
                group=path.name,
                mask_path=mask_path if number % 2 else None,
                defect="good",
            )
        )
    return made


def test_matrix_has_every_image_and_its_pixel_figures(items: list[ImageItem]) -> None:
    matrix = score_images(Brightness(), items, CONFIGS, name="x")
    assert matrix.scores.shape == (2, 40)
    assert matrix.scores[1].tolist() == (2 * matrix.scores[0]).tolist()
    assert matrix.images == [item.id for item in items]
    assert np.array_equal(matrix.pixel["pixel_auroc"], np.ones((2, 2)))
    assert np.allclose(matrix.pixel["pixel_aupro"], 1.0)
    assert matrix.pixel_reason == ["", ""]


def test_blocks_are_kept_and_taken_up_again(items: list[ImageItem], tmp_path: Path) -> None:
    store = tmp_path / "blocks"
    first = Brightness()
    whole = score_images(first, items, CONFIGS, name="x", store=store)
    assert first.calls == 3
    files = sorted((store / "x").iterdir())
    files[1].write_bytes(b"cut short")
    second = Brightness()
    told: list[tuple[str, int, int]] = []
    again = score_images(
        second, items, CONFIGS, name="x", store=store, progress=lambda *call: told.append(call)
    )
    assert told[0] == ("scoring x", 40, 40), "what was found on disk counts as done before"
    assert second.calls == 1, "only the damaged block is computed again"
    assert np.array_equal(again.scores, whole.scores)
    other = Brightness()
    score_images(other, items, CONFIGS[:1], name="x", store=store)
    assert other.calls == 3, "blocks of other configurations are not taken"
    forget_blocks(store)
    assert not store.exists()


def test_an_interrupted_sweep_loses_one_block(
    items: list[ImageItem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = Brightness()
    honest = detector.score_block

    def dies(images: Sequence[np.ndarray], configs: Sequence[Config]) -> Block:
        if detector.calls == 2:
            raise KeyboardInterrupt
        return honest(images, configs)

    monkeypatch.setattr(detector, "score_block", dies)
    with pytest.raises(KeyboardInterrupt):
        score_images(detector, items, CONFIGS, name="x", store=tmp_path / "blocks")
    resumed = Brightness()
    matrix = score_images(resumed, items, CONFIGS, name="x", store=tmp_path / "blocks")
    assert resumed.calls == 1
    assert np.array_equal(
        matrix.scores, score_images(Brightness(), items, CONFIGS, name="y").scores
    )


def test_pixel_figures_are_kept_and_measured_once(
    items: list[ImageItem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, honest, measured = tmp_path / "blocks", PixelFigures.run, []
    items = [replace(i, mask_path=None) if i.category == "b" else i for i in items]

    def run(task: PixelFigures) -> np.ndarray | None:
        measured.append(task.category)
        if measured == ["a", "b"]:
            raise KeyboardInterrupt
        return honest(task)

    monkeypatch.setattr(PixelFigures, "run", run)
    with pytest.raises(KeyboardInterrupt):
        score_images(Brightness(), items, CONFIGS, name="x", store=store)
    first = score_images(Brightness(), items, CONFIGS, name="x", store=store)
    again = score_images(Brightness(), items, CONFIGS, name="x", store=store)
    assert measured == ["a", "b", "b"]
    assert np.array_equal(first.pixel["pixel_auroc"][:, 0], [1.0, 1.0])
    assert first.pixel_reason[0] == "" and "no defect image" in first.pixel_reason[1]
    for metric, values in again.pixel.items():
        assert np.array_equal(values, first.pixel[metric], equal_nan=True)
    assert again.pixel_reason == first.pixel_reason
    masks = [item.mask_path for item in items if item.mask_path]
    write_png(masks[0], np.full((8, 8), 255, dtype=np.uint8))
    other = score_images(Brightness(), items, CONFIGS, name="x", store=store)
    assert measured == ["a", "b", "b", "a"], "the masks of a are others"
    assert (other.pixel["pixel_auroc"][:, 0] < 1).all()


def test_block_size_does_not_matter(
    items: list[ImageItem], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = score_images(Brightness(), items, CONFIGS, name="x")
    monkeypatch.setattr(sweep, "BLOCK_IMAGES", 7)
    assert np.array_equal(score_images(Brightness(), items, CONFIGS, name="x").scores, whole.scores)


def test_missing_and_empty_masks_have_a_reason(items: list[ImageItem], tmp_path: Path) -> None:
    empty = tmp_path / "empty.png"
    write_png(empty, np.zeros((8, 8), dtype=np.uint8))
    changed = []
    for item in items:
        values = {**vars(item)}
        if item.category == "a" and item.label:
            values["mask_path"] = None
        if item.id == "21.png":
            values["mask_path"] = empty
        changed.append(ImageItem(**values))
    matrix = score_images(Brightness(), changed, CONFIGS, name="x")
    assert np.isnan(matrix.pixel["pixel_auroc"][:, 0]).all()
    assert "mask" in matrix.pixel_reason[0]
    assert matrix.pixel["pixel_auroc"][:, 1].tolist() == [1.0, 1.0], "the empty mask is left out"


def test_a_score_matrix_does_not_depend_on_the_number_of_threads(road: Path) -> None:
    """From image files to pixel figures, with a real model; each count in a process of its own."""
    script = f"""
import sys, torch
from pathlib import Path
from pseudoval.models.open import open_detector
from pseudoval.pseudo_set.manifest import load_manifest, pseudo_items
from pseudoval.scoring.matrices import score_images
torch.set_num_threads(int(sys.argv[1]))
pseudo = Path({str(road / "pseudo")!r})
detector = open_detector(Path({str(road / "model")!r}), seed=0)
items = pseudo_items(pseudo, load_manifest(pseudo))
configs = [{{"t": 25, "k": 0}}, {{"t": 500, "k": 0}}, {{"t": 200, "k": 3}}]
matrix = score_images(detector, items, configs, name="x")
assert (matrix.pixel["pixel_aupro"] > 0).any()
matrix.save(Path(sys.argv[2]))
"""
    found = []
    for count in (1, 3):
        path = road / f"threads-{count}.npz"
        environment = {**os.environ, "OMP_NUM_THREADS": str(count)}
        command = [sys.executable, "-c", script, str(count), str(path)]
        subprocess.run(command, check=True, env=environment, timeout=300)
        found.append(path.read_bytes())
        path.unlink()
    assert found[0] == found[1]


@pytest.mark.parametrize("shared_disk", [True, False])
def test_blocks_of_workers(
    items: list[ImageItem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_disk: bool
) -> None:
    """They write their blocks where they see the folder; elsewhere the blocks come back."""
    if not shared_disk:
        monkeypatch.setattr(SharedFolder, "is_here", lambda self: False)
    alone = score_images(Brightness(), items, CONFIGS, name="x", store=tmp_path / "alone")
    results: list[object] = []
    keep = ScoreBlock.keep
    monkeypatch.setattr(ScoreBlock, "keep", lambda *a: results.append(a[1]) or keep(*a))
    store = tmp_path / "blocks"
    with ThreadPoolExecutor(2) as threads:
        options = {"name": "x", "store": store, "workers": Workers(executor=threads)}
        found = score_images(Brightness(), items, CONFIGS, **options)
        assert np.array_equal(found.scores, alone.scores)
        for name, values in alone.pixel.items():
            assert np.array_equal(found.pixel[name], values)
        written = [result for result in results if isinstance(result, Written)]
        assert len(written) == (3 if shared_disk else 0)
        for path in (tmp_path / "alone").rglob("*.npz"):
            same = store / path.relative_to(tmp_path / "alone")
            assert same.read_bytes() == path.read_bytes()
        assert not list(store.rglob(".*")), "the token is gone"
        again = Brightness()
        score_images(again, items, CONFIGS, **options)
        assert again.calls == 0, "what is there is not run"


def test_an_image_that_changed_meanwhile_is_refused(items: list[ImageItem]) -> None:
    for item in items:
        assert item.sha256
    items[30].path.write_bytes(items[31].path.read_bytes())
    with (
        ThreadPoolExecutor(1) as threads,
        pytest.raises(UserError, match=r"30\.png is not the image that this command was started"),
    ):
        workers = Workers(executor=threads)
        score_images(Brightness(), items, CONFIGS, name="x", workers=workers)
