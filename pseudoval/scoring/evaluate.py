"""``evaluate``: what the tuned configurations are worth on the real test split."""

from pathlib import Path
from typing import Any

import numpy as np

from pseudoval.data.dataset import ImageItem, data_sha256, test_items
from pseudoval.data.files import (
    claimed,
    clear_folder,
    read_json,
    write_json,
)
from pseudoval.detectors import Detector
from pseudoval.errors import UserError
from pseudoval.metrics.image_metrics import require_both_classes
from pseudoval.metrics.result_table import figures, variants, write_figures
from pseudoval.metrics.runs import Run, load_run
from pseudoval.metrics.score_matrix import Config, ScoreMatrix
from pseudoval.models.members import members_sha256
from pseudoval.progress import ProgressCallback, labelled
from pseudoval.scoring.blocks import forget_blocks, score_further, score_images
from pseudoval.scoring.examples import write_examples

SCORES = "test_scores.npz"


def evaluate(
    run_folder: Path,
    data: Path,
    *,
    device: str,
    cache: Path | bool = True,
    progress: ProgressCallback,
) -> dict[str, Any]:
    """Score every tuned configuration on the real test images of the RUN's categories.

    Writes ``RUN/test_scores.npz`` and examples, for several seeds in ``RUN/seed-S``, and
    ``RUN/figures.json`` and ``figures.csv``. What was scored before with the same model on the same
    images is not scored again.

    Args:
        cache: folder of the feature cache; True is that of the MODEL, False is none.

    Returns:
        The content of ``figures.json``.

    Raises:
        UserError: DATA lacks a category, or a category lacks defects or normals; the model is
            missing or is not the one that was tuned.
    """
    run = load_run(run_folder)
    items = real_test_items(data, run.header["categories"])
    matrices: dict[str, ScoreMatrix] = {}
    scored: dict[tuple[Path, int], ScoreMatrix] = {}
    for name, member in run.members.items():
        # Members that differ in the pseudo set only are one on the real test set.
        same = (member.model.resolve(), int(member.header["seed"]))
        if same in scored:
            scored[same].save(member.folder / SCORES)
            continue
        matrix = _evaluate_member(member, items, device, cache, labelled(progress, name))
        matrices[name] = scored[same] = matrix
    content = figures(matrices, run.best["params"])
    write_figures(run.folder, content)
    return content


def evaluate_refit(
    run_folder: Path,
    data: Path,
    model: Path,
    *,
    device: str,
    cache: Path | bool = True,
    progress: ProgressCallback,
) -> dict[str, Any]:
    """Score the RUN's choice, with and without editing, with another model: the refitted one.

    Writes ``RUN/refit/test_scores.npz`` (for several seeds ``RUN/refit/seed-S/test_scores.npz``)
    and ``RUN/refit/figures.json`` and ``figures.csv``; nothing else in RUN is touched.

    Returns:
        The content of ``figures.json``.

    Raises:
        UserError: as in ``evaluate``, or the model does not belong to the RUN.
    """
    from pseudoval.models.open import open_detectors

    run = load_run(run_folder)
    items = real_test_items(data, run.header["categories"])
    seed = int(run.header["seed"])
    detectors = open_detectors(model, seed=seed, device=device, cache=cache, settings=run.scoring)
    for detector in detectors.values():
        require_refit(detector, run, model)
    configs: list[Config] = [*variants(run.header["detector"], run.best["params"]).values()]
    about = {"model_sha256": members_sha256({n: d.model_sha256 for n, d in detectors.items()})}
    folder = run.folder / "refit"
    with claimed(folder, "refit"):
        header = folder / "refit.json"
        if not header.exists() or read_json(header, "The header of the refit") != about:
            clear_folder(folder)
            write_json(header, about)
        matrices = {
            name: _scored(detector, items, configs, folder / name, labelled(progress, name))
            for name, detector in detectors.items()
        }
        content = figures(matrices, run.best["params"])
        write_figures(folder, content)
    return content


def require_refit(detector: Detector, run: Run, model: Path) -> None:
    """Refuse a model that is not of the RUN's choice.

    Raises:
        UserError: naming what differs.
    """
    wanted = run.header["detector"]
    if detector.name != wanted:
        raise UserError(
            f"{model} holds the detector {detector.name}, but {run.folder} chose a configuration "
            f"of {wanted}; give a model of {wanted}."
        )
    if sorted(detector.categories) != sorted(run.header["categories"]):
        raise UserError(
            f"{model} knows {', '.join(detector.categories)}, but {run.folder} is about "
            f"{', '.join(run.header['categories'])}; give a model of these categories."
        )
    for name, chosen in (("study", "study"), ("params", "params"),
                         ("run_model_sha256", "model_sha256")):  # fmt: skip
        if detector.refit is not None and detector.refit[name] != run.best[chosen]:
            raise UserError(
                f"{model} was refitted from another choice than that of {run.folder}: {name} is "
                f"{detector.refit[name]} there and {run.best[chosen]} here. Refit again with "
                f"'pseudoval train DATA --refit {run.folder}'."
            )


def real_test_items(data: Path, categories: list[str]) -> list[ImageItem]:
    """The real test images of the given categories, both classes in each."""
    for category in categories:
        if not (data / category).is_dir():
            raise UserError(
                f"{data} has no category {category!r}, which the run was tuned on; give the data "
                "root that has it."
            )
    items = [item for category in categories for item in test_items(data, category)]
    require_both_classes(
        [item.category for item in items], np.array([item.label for item in items]), str(data)
    )
    return items


def _evaluate_member(
    run: Run,
    items: list[ImageItem],
    device: str,
    cache: Path | bool,
    progress: ProgressCallback,
) -> ScoreMatrix:
    """The real-test matrix of one model, with examples beside it."""
    from pseudoval.models.open import open_detector

    configs: list[Config] = [*ScoreMatrix.load(run.folder / "pseudo_scores.npz").configs]
    seed, sha = int(run.header["seed"]), str(run.best["model_sha256"])
    done = _finished(run.folder / SCORES, items, configs, sha, seed)
    if done is not None:
        return done
    detector = open_detector(run.model, seed=seed, device=device, cache=cache, settings=run.scoring)
    if detector.model_sha256 != sha:
        raise UserError(
            f"The model in {run.model} is not the one that {run.folder} was tuned with; restore "
            "it, or tune again."
        )
    blocks = run.folder / "blocks"
    matrix = score_further(
        detector,
        items,
        configs,
        known=run.folder / SCORES,
        name="test",
        store=blocks,
        progress=progress,
    )
    write_examples(
        run.folder / "examples", "test", detector, items, matrix, run.best["params"], progress
    )
    matrix.save(run.folder / SCORES)
    forget_blocks(blocks)
    return matrix


def _scored(
    detector: Detector,
    items: list[ImageItem],
    configs: list[Config],
    folder: Path,
    progress: ProgressCallback,
) -> ScoreMatrix:
    """The real-test matrix in ``folder``, scored now unless it is there already."""
    done = _finished(folder / SCORES, items, configs, detector.model_sha256, detector.seed)
    if done is not None:
        return done
    blocks = folder / "blocks"
    matrix = score_images(detector, items, configs, name="test", store=blocks, progress=progress)
    matrix.save(folder / SCORES)
    forget_blocks(blocks)
    return matrix


def _finished(
    path: Path, items: list[ImageItem], configs: list[Config], model_sha256: str, seed: int
) -> ScoreMatrix | None:
    """The matrix at ``path`` if it is of these images, this model and these configurations."""
    if not path.exists():
        return None
    try:
        matrix = ScoreMatrix.load(path)
    except UserError:
        return None  # damaged: computed again
    wanted = {
        "data_sha256": data_sha256(items),
        "model_sha256": model_sha256,
        "seed": seed,
    }
    same = all(matrix.header.get(name) == value for name, value in wanted.items())
    return matrix if same and matrix.configs == configs else None
