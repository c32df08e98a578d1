"""``predict``: scores and heat maps of new images under the chosen configuration."""

import csv
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pseudoval.data.dataset import IMAGE_SUFFIXES
from pseudoval.data.files import (
    FORMAT_VERSION,
    claimed,
    clear_folder,
    folder_kind,
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
from pseudoval.progress import ProgressCallback
from pseudoval.scoring.blocks import BLOCK_IMAGES, score_by_category
from pseudoval.scoring.heat_maps import overlay

KIND = "predictions"
ABOUT = "predictions.json"
IDENTITY = ("detector", "model_sha256", "params", "seed", "images_sha256", "run_model_sha256")


@dataclass(frozen=True, kw_only=True)
class Target:
    """An image to judge.

    Attributes:
        name: POSIX path relative to what all images have in common.
        category: "" where the detector does not ask for it.
    """

    name: str
    path: Path
    category: str = ""


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
    progress: ProgressCallback,
    notice: Callable[[str], None],
) -> bool:
    """Score new images and draw their anomaly maps over them.

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
    from pseudoval.models.open import open_detector

    tuned = load_run(run) if run is not None else None
    found = find_images(images)
    for target in found:
        image_shape(target.path)  # refuses what is no image before a model is opened
    seed = int(tuned.header["seed"]) if tuned is not None else None
    scoring = tuned.scoring if tuned is not None else None
    detector = open_detector(model, seed=seed, device=device, cache=cache, settings=scoring)
    targets = with_categories(found, detector, category)
    params, source = configuration(detector, tuned, model)
    detector.check(params)
    listing = [[t.name, t.category, sha256_file(t.path)] for t in targets]
    about: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "detector": detector.name,
        "model": os.path.relpath(model, out),
        "model_sha256": detector.model_sha256,
        "params": params,
        "params_from": source,
        "run": os.path.relpath(run, out) if run is not None else None,
        "run_model_sha256": tuned.best["model_sha256"] if tuned is not None else None,
        "seed": detector.seed,
        "images": len(targets),
        "images_sha256": sha256_json(listing),
        "versions": versions("torch", "timm", "faiss-cpu", "numpy"),
    }
    with claimed(out, KIND):
        if _is_done(out, about, overwrite):
            return False
        if source == "defaults":
            notice(f"No --run, and {model} is no refit: using the defaults {config_name(params)}.")
        scores, coarse = _score(detector, targets, params, progress)
        scale = scale_of(detector, coarse, params, tuned)
        clear_folder(out)
        places = map_names([target.name for target in targets])
        for row, (target, place) in enumerate(zip(targets, places, strict=True)):
            values = detector.of(target.category).render(coarse[row][None])[0]
            drawn = overlay(read_rgb(target.path), values, scale["low"], scale["high"])
            write_png(out / "maps" / place, drawn)
            progress("drawing", row + 1, len(targets))
        write_text(out / "scores.csv", _csv(targets, scores))
        write_json(out / ABOUT, {**about, "scale": scale})
    return True


def find_images(arguments: Sequence[Path]) -> list[Target]:
    """The image files among the arguments and below the folders among them, sorted by name.

    Hidden files and folders and earlier predictions are passed over. Names are relative to the
    folder given; where several arguments are given, to what they have in common.

    Raises:
        UserError: an argument does not exist or is no image, or a folder has no images.
    """
    files: list[Path] = []
    for argument in arguments:
        if argument.is_dir():
            below = _below(argument)
            if not below:
                raise UserError(f"There is no image in {argument} or below it.")
            files += below
        elif not argument.exists():
            raise UserError(f"There is no image or folder at {argument}.")
        elif argument.suffix.lower() not in IMAGE_SUFFIXES:
            kinds = ", ".join(suffix[1:] for suffix in IMAGE_SUFFIXES)
            raise UserError(f"{argument} is not an image file ({kinds}).")
        else:
            files.append(argument)
    bases = [path if path.is_dir() else path.parent for path in arguments]
    root = os.path.commonpath([os.path.normpath(base.absolute()) for base in bases])
    named = {Path(os.path.relpath(path, root)).as_posix(): path for path in files}
    return [Target(name=name, path=named[name]) for name in sorted(named)]


def with_categories(
    targets: Sequence[Target], detector: Detector, category: str | None
) -> list[Target]:
    """The targets with the category that decides which model judges them.

    Raises:
        UserError: the category is unknown, or one is needed and cannot be told from the path.
    """
    known = ", ".join(detector.categories)
    if category is not None and category not in detector.categories:
        raise UserError(f"The model knows no category {category!r}; it knows {known}.")
    if category is not None or detector.of_all:
        return [Target(name=t.name, path=t.path, category=category or "") for t in targets]
    found = []
    for target in targets:
        folders = reversed(Path(os.path.normpath(target.path.absolute())).parts[:-1])
        nearest = next((part for part in folders if part in detector.categories), None)
        if nearest is None:
            raise UserError(
                f"There is one model for each of {known}, and no folder of {target.path} is named "
                "like one; pass --category NAME."
            )
        found.append(Target(name=target.name, path=target.path, category=nearest))
    return found


def configuration(detector: Detector, run: Run | None, model: Path) -> tuple[Config, str]:
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
    Where that is not known, or lies below the median, it ends at the highest value of these maps.

    Args:
        coarse: ``[h, w]`` of each image.
    """
    low = float(np.median(np.stack(coarse)))
    for member in run.members.values() if run is not None else ():
        if member.best["model_sha256"] == detector.model_sha256:
            matrix = ScoreMatrix.load(member.folder / "pseudo_scores.npz")
            high = float(matrix.scores[matrix.row(params), matrix.labels == 0].max())
            if high > low:
                return {
                    "low": low,
                    "low_is": "median of the cells of all maps",
                    "high": high,
                    "high_is": "highest score of the normals of the run's pseudo set",
                }
    high = max(float(detector.render(grid[None]).max()) for grid in coarse)
    return {
        "low": low,
        "low_is": "median of the cells of all maps",
        "high": high,
        "high_is": "highest value of all maps",
    }


def map_names(names: Sequence[str]) -> list[str]:
    """A PNG for each image, in the same folders; images that differ in suffix only keep it."""
    places = [f"{name.rpartition('.')[0]}.png" for name in names]
    if len({place.casefold() for place in places}) < len(places):
        return [f"{name}.png" for name in names]
    return places


def _below(folder: Path) -> list[Path]:
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [
            name for name in folders if name[0] != "." and folder_kind(Path(place) / name) != KIND
        ]
        found += [
            Path(place) / name
            for name in files
            if name[0] != "." and Path(name).suffix.lower() in IMAGE_SUFFIXES
        ]
    return found


def _is_done(out: Path, about: dict[str, Any], overwrite: bool) -> bool:
    """Whether exactly these predictions are in ``out``; an unfinished lot may be replaced."""
    if overwrite or not (out / ABOUT).exists():
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
    """Score and coarse map ``[h, w]`` of every image."""
    scores: list[float] = []
    coarse: list[np.ndarray] = []
    for start in range(0, len(targets), BLOCK_IMAGES):
        part = targets[start : start + BLOCK_IMAGES]
        block = score_by_category(detector, [(t.category, t.path) for t in part], [params])
        scores += block.scores[0].tolist()
        coarse += list(block.coarse[0])
        progress("scoring", len(scores), len(targets))
    return scores, coarse


def _csv(targets: Sequence[Target], scores: Sequence[float]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    named = any(target.category for target in targets)
    writer.writerow(["image", "score", *(["category"] if named else [])])
    for target, score in zip(targets, scores, strict=True):
        writer.writerow([target.name, repr(score), *([target.category] if named else [])])
    return text.getvalue()
