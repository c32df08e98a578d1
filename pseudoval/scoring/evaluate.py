"""``evaluate``: what the tuned configurations are worth on the real test split."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np

from pseudoval.data.dataset import ImageItem, test_items
from pseudoval.data.files import claimed, clear_folder, read_json, sha256_json, write_json
from pseudoval.data.locks import locked
from pseudoval.detectors import Detector, all_detectors
from pseudoval.errors import UserError
from pseudoval.metrics.image_metrics import require_both_classes
from pseudoval.metrics.result_table import result_table, variants, write_result_table
from pseudoval.metrics.runs import Run, load_run
from pseudoval.metrics.score_matrix import Config, ScoreMatrix
from pseudoval.models.open import open_detector, open_detectors
from pseudoval.progress import ProgressCallback, labelled, silent
from pseudoval.scoring.blocks import forget_blocks
from pseudoval.scoring.examples import write_examples
from pseudoval.scoring.fits import fit_banks
from pseudoval.scoring.matrices import known_scores, score_missing
from pseudoval.tasks import Workers

SCORES = "test_scores.npz"


def evaluate_run(
    run: Path,
    data: Path,
    *,
    detector: Detector | None = None,
    device: str = "cpu",
    cache: Path | bool = True,
    executor: Executor | None = None,
    progress: ProgressCallback = silent,
    notice: Callable[[str], None] = lambda sentence: None,
) -> dict[str, Any]:
    """Score every tuned configuration on the real test images of the RUN's categories.

    Writes ``RUN/test_scores.npz`` and examples, for several seeds in ``RUN/seed-S``, and
    ``RUN/figures.json`` and ``figures.csv``. What was scored before with the same model on the same
    images is not scored again.

    Args:
        detector: the object that was tuned, if it was none in a MODEL folder.
        cache: folder of the feature cache; True is that of the MODEL, False is none.
        executor: who scores, see ``pseudoval.tasks.run_tasks``; None is this process alone.
        notice: is told what a person should know beside the progress.

    Returns:
        The result table, which is the content of ``figures.json``.

    Raises:
        UserError: DATA lacks a category, or a category lacks defects or normals; the model is
            missing or is not the one that was tuned.
    """
    tuned, workers = load_run(run), Workers(executor=executor)
    items = real_test_items(data, tuned.header["categories"])
    matrices: dict[str, ScoreMatrix] = {}
    scored: dict[tuple[Path, int], ScoreMatrix] = {}
    with locked(tuned.folder, "evaluate"):
        for name, member in tuned.members.items():
            # Members that differ in the pseudo set only are one on the real test set.
            same = (member.model.resolve(), member.seed)
            if same in scored:
                scored[same].save(member.folder / SCORES)
                continue
            judge = detector or _open_tuned(member, device, cache, workers)
            require_tuned(judge, member)
            configs = [*ScoreMatrix.load(member.folder / "pseudo_scores.npz").configs]
            matrices[name] = scored[same] = _scored(
                judge, items, configs, member.folder, workers, labelled(progress, name),
                explained=tuned.best["params"],
            )  # fmt: skip
        content = result_table(matrices, tuned.best["params"])
        write_result_table(tuned.folder, content)
    if difference := workers.difference():
        notice(difference)
    return content


def evaluate_refit(
    run: Path,
    data: Path,
    model: Path,
    *,
    device: str = "cpu",
    cache: Path | bool = True,
    executor: Executor | None = None,
    progress: ProgressCallback = silent,
    notice: Callable[[str], None] = lambda sentence: None,
) -> dict[str, Any]:
    """Score the RUN's choice, with and without editing, with another model: the refitted one.

    Writes ``RUN/refit/test_scores.npz`` (for several seeds ``RUN/refit/seed-S/test_scores.npz``)
    and ``RUN/refit/figures.json`` and ``figures.csv``; nothing else in RUN is touched.

    Returns:
        The result table, which is the content of ``figures.json``.

    Raises:
        UserError: as in ``evaluate_run``, or the model does not belong to the RUN.
    """
    tuned, workers = load_run(run), Workers(executor=executor)
    items = real_test_items(data, tuned.header["categories"])
    detectors = open_detectors(
        model, seed=tuned.seed, device=device, cache=cache, settings=tuned.scoring,
        on_workers=executor is not None,
    )  # fmt: skip
    for detector in detectors.values():
        require_refit(detector, tuned, model)
    about = {"model_sha256": sha256_json({n: d.model_sha256 for n, d in detectors.items()})}
    folder = tuned.folder / "refit"
    with locked(tuned.folder, "evaluate"), claimed(folder, "refit"):
        header = folder / "refit.json"
        if not header.exists() or read_json(header, "The header of the refit") != about:
            clear_folder(folder)
            write_json(header, about)
        configs = [*variants(tuned.header["detector"], tuned.best["params"]).values()]
        matrices = {
            name: _scored(
                detector, items, configs, folder / name, workers, labelled(progress, name)
            )
            for name, detector in detectors.items()
        }
        content = result_table(matrices, tuned.best["params"])
        write_result_table(folder, content)
    if difference := workers.difference():
        notice(difference)
    return content


def _scored(
    detector: Detector,
    items: Sequence[ImageItem],
    configs: Sequence[Config],
    folder: Path,
    workers: Workers,
    progress: ProgressCallback,
    explained: Config | None = None,
) -> ScoreMatrix:
    """The real-test matrix in a folder, where what is missing is scored now.

    Args:
        explained: the configuration of which examples are written; None for none.
    """
    path, blocks = folder / SCORES, folder / "blocks"
    known = known_scores(path, items, detector.model_sha256, detector.seed)
    if known is not None and known.configs == configs:
        return known
    fit_banks([detector], configs, workers, progress)
    matrix = score_missing(
        detector, items, configs, known, name="test", store=blocks, workers=workers,
        progress=progress,
    )  # fmt: skip
    if explained is not None:
        shown = folder / "examples"
        write_examples(shown, "test", detector, items, matrix, explained, progress, workers)
    matrix.save(path)
    forget_blocks(blocks)
    return matrix


def _open_tuned(run: Run, device: str, cache: Path | bool, workers: Workers) -> Detector:
    """The detector in the MODEL that was tuned.

    Raises:
        UserError: its MODEL is missing, or an object was tuned.
    """
    name = run.header["detector"]
    if ":" not in name and name not in all_detectors():
        raise UserError(
            f"{run.folder} was tuned with an object, the detector {name}; call "
            "pseudoval.scoring.evaluate_run(run, data, detector=...) with it."
        )
    return open_detector(
        run.model, seed=run.seed, device=device, cache=cache, settings=run.scoring,
        on_workers=workers.executor is not None,
    )  # fmt: skip


def require_tuned(detector: Detector, run: Run) -> None:
    """Refuse a detector that is not the one that was tuned.

    Raises:
        UserError: naming what differs.
    """
    _require_equal(
        f"The detector {detector.name} is not the one that {run.folder} was tuned with",
        "restore it, or tune again",
        name=(detector.name, run.header["detector"]),
        seed=(detector.seed, run.seed),
        model_sha256=(detector.model_sha256, run.best["model_sha256"]),
    )


def require_refit(detector: Detector, run: Run, model: Path) -> None:
    """Refuse a model that is not of the RUN's choice.

    Raises:
        UserError: naming what differs.
    """
    choice = detector.refit or {}
    best: Mapping[str, Any] = run.best
    _require_equal(
        f"{model} is no refit of the choice in {run.folder}",
        f"refit again with 'pseudoval train DATA --refit {run.folder}'",
        detector=(detector.name, run.header["detector"]),
        categories=(sorted(detector.categories), sorted(run.header["categories"])),
        **{
            name: (choice[name], best[name.removeprefix("run_")])
            for name in ("study", "params", "run_model_sha256")
            if choice
        },
    )


def _require_equal(problem: str, mend: str, **pairs: tuple[Any, Any]) -> None:
    """Refuse the first pair of (found, wanted) that differs, by its name."""
    for name, (found, wanted) in pairs.items():
        if found != wanted:
            raise UserError(f"{problem}: its {name} is {found}, not {wanted}; {mend}.")


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
