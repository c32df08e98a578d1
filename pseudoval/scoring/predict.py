"""``predict``: scores and heat maps of new images under the chosen configuration."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pseudoval.data.files import (
    FORMAT_VERSION,
    claimed,
    clear_folder,
    read_json,
    sha256_file,
    sha256_json,
    write_json,
    write_text,
)
from pseudoval.data.images import image_shape, read_rgb, write_png
from pseudoval.data.versions import versions
from pseudoval.detectors import Detector
from pseudoval.errors import UserError
from pseudoval.metrics.runs import Run, load_run
from pseudoval.metrics.score_matrix import Config, ScoreMatrix, config_name
from pseudoval.models.open import open_detector
from pseudoval.progress import ProgressCallback, silent
from pseudoval.scoring.blocks import BLOCK_IMAGES, score_by_category
from pseudoval.scoring.heat_maps import overlay
from pseudoval.scoring.targets import PREDICTIONS, Target, find_images, map_names, with_categories

ABOUT = "predictions.json"
IDENTITY = ("detector", "model_sha256", "params", "seed", "images_sha256", "run_model_sha256")


def predict(
    model: Path,
    images: Sequence[Path],
    out: Path,
    *,
    run: Path | None = None,
    category: str | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    cache: Path | bool = True,
    progress: ProgressCallback = silent,
    notice: Callable[[str], None] = lambda sentence: None,
) -> bool:
    """Score new images and draw their anomaly maps over them, if the detector has maps.

    Nothing is written before every image has been scored. Images are read twice, a block at a
    time, and only their coarse maps are kept, so that memory hardly grows with their number.

    Args:
        model: a MODEL folder: of one model, or of one per category.
        images: files, and folders that are searched for images.
        out: ``scores.csv``, ``maps/NAME.png`` and ``predictions.json`` go here.
        run: the RUN whose choice is taken; without it that which the model was refitted with,
            else the detector's defaults.
        category: of all images; None takes it from their paths where there is one model per
            category.
        cache: folder of the feature cache; True is that of the MODEL, False is none.
        notice: called with a sentence that the user should see.

    Returns:
        False if exactly this was there already.

    Raises:
        UserError: an image that cannot be read, by name; nothing is written then. See the
            sentence for others.
    """
    tuned = load_run(run) if run is not None else None
    found = find_images(images)
    for target in found:
        image_shape(target.path)  # refuses what is no image before a model is opened
    detector = open_detector(
        model,
        seed=tuned.seed if tuned else None,
        device=device,
        cache=cache,
        settings=tuned.scoring if tuned else None,
    )
    targets = with_categories(found, detector, category)
    params, source = chosen_configuration(detector, tuned, model)
    detector.check(params)
    about = {
        "format_version": FORMAT_VERSION,
        "detector": detector.name,
        "model": os.path.relpath(model, out),
        "model_sha256": detector.model_sha256,
        "params": params,
        "params_from": source,
        "run": os.path.relpath(run, out) if run is not None else None,
        "run_model_sha256": tuned.best["model_sha256"] if tuned else None,
        "seed": detector.seed,
        "images": len(targets),
        "images_sha256": sha256_json([[t.name, t.category, sha256_file(t.path)] for t in targets]),
        "versions": versions("torch", "timm", "faiss-cpu", "numpy"),
    }
    with claimed(out, PREDICTIONS):
        if not overwrite and _is_done(out, about):
            return False
        if source == "defaults":
            notice(f"No --run, and {model} is no refit: using the defaults {config_name(params)}.")
        scores, coarse = _score(detector, targets, params, progress)
        scale = scale_of(detector, coarse, params, tuned) if detector.has_maps else None
        clear_folder(out)
        if scale is not None:
            _draw(detector, targets, coarse, scale, out / "maps", progress)
        else:
            notice(f"{detector.name} has no anomaly maps: there are scores, and no heat maps.")
        write_text(out / "scores.csv", _csv(targets, scores))
        write_json(out / ABOUT, {**about, "scale": scale})
    return True


def chosen_configuration(detector: Detector, run: Run | None, model: Path) -> tuple[Config, str]:
    """What to score with, and where that comes from: ``run``, ``refit`` or ``defaults``.

    Raises:
        UserError: the RUN is of another detector.
    """
    if run is not None:
        if run.header["detector"] != detector.name:
            raise UserError(
                f"{run.folder} chose a configuration of {run.header['detector']}, but {model} "
                f"holds {detector.name}; give a run of {detector.name}."
            )
        return run.best["params"], "run"
    if detector.refit is not None:
        return detector.refit["params"], "refit"
    return {p.name: p.default for p in detector.parameters if not p.needs_fit}, "defaults"


def scale_of(
    detector: Detector, coarse: Sequence[np.ndarray], params: Config, run: Run | None
) -> dict[str, Any]:
    """The common scale of all heat maps.

    It begins at the median of the cells of all maps, and ends at the highest score that a normal
    image of the RUN's pseudo set gets from the same model: above it nothing normal has been seen.
    Where that is not known, lies below the median or is no value of a map, it ends at the highest
    value of these maps.

    Args:
        coarse: ``[h, w]`` of each image.
    """
    low = float(np.median(np.stack(coarse)))
    scale = {"low": low, "low_is": "median of the cells of all maps"}
    for member in run.members.values() if run is not None and detector.scores_in_maps else ():
        if member.best["model_sha256"] == detector.model_sha256:
            matrix = ScoreMatrix.load(member.folder / "pseudo_scores.npz")
            high = float(matrix.scores[matrix.row(params), matrix.labels == 0].max())
            if high > low:
                high_is = "highest score of the normals of the run's pseudo set"
                return {**scale, "high": high, "high_is": high_is}
    high = max(float(detector.render(grid[None]).max()) for grid in coarse)
    return {**scale, "high": high, "high_is": "highest value of all maps"}


def _is_done(out: Path, about: dict[str, Any]) -> bool:
    """Whether exactly these predictions are in ``out``; an unfinished lot may be replaced."""
    if not (out / ABOUT).exists():
        return False
    there = read_json(out / ABOUT, "The header of the predictions")
    differing = [name for name in IDENTITY if there.get(name) != about[name]]
    if differing:
        raise UserError(
            f"{out} holds predictions with another {differing[0]}; choose another --out, or pass "
            "--overwrite."
        )
    return True


def _score(
    detector: Detector, targets: Sequence[Target], params: Config, progress: ProgressCallback
) -> tuple[list[float], list[np.ndarray]]:
    """Score and coarse map ``[h, w]`` of every image; no maps of a detector without them."""
    scores: list[float] = []
    coarse: list[np.ndarray] = []
    for start in range(0, len(targets), BLOCK_IMAGES):
        part = targets[start : start + BLOCK_IMAGES]
        block = score_by_category(detector.of, [(t.category, t.path) for t in part], [params])
        scores += block.scores[0].tolist()
        coarse += [] if block.coarse is None else list(block.coarse[0])
        progress("scoring", len(scores), len(targets))
    return scores, coarse


def _draw(
    detector: Detector,
    targets: Sequence[Target],
    coarse: Sequence[np.ndarray],
    scale: Mapping[str, Any],
    folder: Path,
    progress: ProgressCallback,
) -> None:
    """The heat map of every image."""
    places = map_names([target.name for target in targets])
    for row, (target, place) in enumerate(zip(targets, places, strict=True)):
        values = detector.of(target.category).render(coarse[row][None])[0]
        drawn = overlay(read_rgb(target.path), values, scale["low"], scale["high"])
        write_png(folder / place, drawn)
        progress("drawing", row + 1, len(targets))


def _csv(targets: Sequence[Target], scores: Sequence[float]) -> str:
    import pandas as pd  # takes a second, which a refusal need not wait for

    table = pd.DataFrame({"image": [target.name for target in targets], "score": scores})
    if any(target.category for target in targets):
        table["category"] = [target.category for target in targets]
    return str(table.to_csv(index=False, lineterminator="\n"))
