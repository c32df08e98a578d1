"""``evaluate``: what the tuned configurations are worth on the real test split."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pseudoval.data.dataset import ImageItem, test_items
from pseudoval.data.files import claimed, clear_folder, read_json, write_json
from pseudoval.detectors import DETECTORS, Detector
from pseudoval.errors import UserError
from pseudoval.metrics.image_metrics import require_both_classes
from pseudoval.metrics.result_table import result_table, variants, write_result_table
from pseudoval.metrics.runs import Run, load_run
from pseudoval.metrics.score_matrix import Config, ScoreMatrix
from pseudoval.models.members import members_sha256
from pseudoval.models.open import open_detector, open_detectors
from pseudoval.progress import ProgressCallback, labelled, silent
from pseudoval.scoring.blocks import forget_blocks, known_scores, score_missing
from pseudoval.scoring.examples import write_examples

SCORES = "test_scores.npz"


def evaluate_run(
    run: Path,
    data: Path,
    *,
    detector: Detector | None = None,
    device: str = "cpu",
    cache: Path | bool = True,
    progress: ProgressCallback = silent,
) -> dict[str, Any]:
    """Score every tuned configuration on the real test images of the RUN's categories.

    Writes ``RUN/test_scores.npz`` and examples, for several seeds in ``RUN/seed-S``, and
    ``RUN/figures.json`` and ``figures.csv``. What was scored before with the same model on the same
    images is not scored again.

    Args:
        detector: the object that was tuned, if it was none in a MODEL folder.
        cache: folder of the feature cache; True is that of the MODEL, False is none.

    Returns:
        The result table, which is the content of ``figures.json``.

    Raises:
        UserError: DATA lacks a category, or a category lacks defects or normals; the model is
            missing or is not the one that was tuned.
    """
    tuned = load_run(run)
    items = real_test_items(data, tuned.header["categories"])
    matrices: dict[str, ScoreMatrix] = {}
    scored: dict[tuple[Path, int], ScoreMatrix] = {}
    for name, member in tuned.members.items():
        # Members that differ in the pseudo set only are one on the real test set.
        same = (member.model.resolve(), member.seed)
        if same in scored:
            scored[same].save(member.folder / SCORES)
            continue
        if detector is not None:
            require_tuned(detector, member)
        request = EvaluateRequest(
            folder=member.folder,
            items=items,
            configs=[*ScoreMatrix.load(member.folder / "pseudo_scores.npz").configs],
            model_sha256=member.best["model_sha256"],
            seed=member.seed,
            detector=partial(_tuned_detector, member, detector, device, cache),
            explained=tuned.best["params"],
            progress=labelled(progress, name),
        )
        matrices[name] = scored[same] = score_test_images(request)
    content = result_table(matrices, tuned.best["params"])
    write_result_table(tuned.folder, content)
    return content


def evaluate_refit(
    run: Path,
    data: Path,
    model: Path,
    *,
    device: str = "cpu",
    cache: Path | bool = True,
    progress: ProgressCallback = silent,
) -> dict[str, Any]:
    """Score the RUN's choice, with and without editing, with another model: the refitted one.

    Writes ``RUN/refit/test_scores.npz`` (for several seeds ``RUN/refit/seed-S/test_scores.npz``)
    and ``RUN/refit/figures.json`` and ``figures.csv``; nothing else in RUN is touched.

    Returns:
        The result table, which is the content of ``figures.json``.

    Raises:
        UserError: as in ``evaluate_run``, or the model does not belong to the RUN.
    """
    tuned = load_run(run)
    items = real_test_items(data, tuned.header["categories"])
    detectors = open_detectors(
        model, seed=tuned.seed, device=device, cache=cache, settings=tuned.scoring
    )
    for detector in detectors.values():
        require_refit(detector, tuned, model)
    about = {"model_sha256": members_sha256({n: d.model_sha256 for n, d in detectors.items()})}
    folder = tuned.folder / "refit"
    with claimed(folder, "refit"):
        header = folder / "refit.json"
        if not header.exists() or read_json(header, "The header of the refit") != about:
            clear_folder(folder)
            write_json(header, about)
        matrices = {
            name: score_test_images(
                EvaluateRequest(
                    folder=folder / name,
                    items=items,
                    configs=[*variants(detector.name, tuned.best["params"]).values()],
                    model_sha256=detector.model_sha256,
                    seed=detector.seed,
                    detector=partial(detectors.__getitem__, name),
                    progress=labelled(progress, name),
                )
            )
            for name, detector in detectors.items()
        }
        content = result_table(matrices, tuned.best["params"])
        write_result_table(folder, content)
    return content


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest:
    """One model to score on the real test images.

    Attributes:
        folder: for the scores.
        model_sha256, seed: of the detector, to find out what was scored before.
        detector: opens it; asked only if something is to be scored.
        explained: the configuration of which examples are written; None for none.
    """

    folder: Path
    items: list[ImageItem]
    configs: list[Config]
    model_sha256: str
    seed: int
    detector: Callable[[], Detector]
    explained: Config | None = None
    progress: ProgressCallback


def score_test_images(request: EvaluateRequest) -> ScoreMatrix:
    """The real-test matrix in a folder, where what is missing is scored now."""
    path, blocks = request.folder / SCORES, request.folder / "blocks"
    known = known_scores(path, request.items, request.model_sha256, request.seed)
    if known is not None and known.configs == request.configs:
        return known
    detector = request.detector()
    matrix = score_missing(
        detector,
        request.items,
        request.configs,
        known,
        name="test",
        store=blocks,
        progress=request.progress,
    )
    if request.explained is not None:
        folder, config = request.folder / "examples", request.explained
        write_examples(folder, "test", detector, request.items, matrix, config, request.progress)
    matrix.save(path)
    forget_blocks(blocks)
    return matrix


def _tuned_detector(
    run: Run, detector: Detector | None, device: str, cache: Path | bool
) -> Detector:
    """The detector that was tuned, opened from its MODEL unless it is given.

    Raises:
        UserError: its MODEL is missing or holds another model.
    """
    if detector is not None:
        return detector
    if run.header["detector"] not in DETECTORS:
        raise UserError(
            f"{run.folder} was tuned with an object, the detector {run.header['detector']}; call "
            "pseudoval.scoring.evaluate_run(run, data, detector=...) with it."
        )
    opened = open_detector(
        run.model, seed=run.seed, device=device, cache=cache, settings=run.scoring
    )
    require_tuned(opened, run)
    return opened


def require_tuned(detector: Detector, run: Run) -> None:
    """Refuse a detector that is not the one that was tuned.

    Raises:
        UserError: naming what differs.
    """
    wanted = {
        "name": (detector.name, run.header["detector"]),
        "seed": (detector.seed, run.seed),
        "model_sha256": (detector.model_sha256, run.best["model_sha256"]),
    }
    for what, (found, tuned) in wanted.items():
        if found != tuned:
            raise UserError(
                f"The detector {detector.name} is not the one that {run.folder} was tuned with: "
                f"its {what} is {found}, and was {tuned}. Restore it, or tune again."
            )


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
