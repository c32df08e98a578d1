"""``evaluate``: what the tuned configurations are worth on the real test split."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pseudoval.dataset import ImageItem, test_items
from pseudoval.errors import UserError
from pseudoval.examples import write_examples
from pseudoval.files import read_json, require_folder, sha256_file, sha256_json
from pseudoval.metrics import auroc_by_category, require_both_classes
from pseudoval.scores import PIXEL_METRICS, Config, ScoreMatrix
from pseudoval.sweep import forget_blocks, score_further

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a RUN folder says of itself.

    Attributes:
        header: ``run.json``.
        best: ``best.json``.
        pseudo: the pseudo score matrix; its configurations are those that were tuned.
    """

    folder: Path
    header: dict[str, Any]
    best: dict[str, Any]
    pseudo: ScoreMatrix

    @property
    def model(self) -> Path:
        """The MODEL folder that was tuned."""
        return Path(os.path.normpath(self.folder / self.header["model"]))


def load_run(folder: Path) -> Run:
    """Read a finished RUN.

    Raises:
        UserError: not a RUN, or tune has not finished there.
    """
    require_folder(folder, "run", "pseudoval tune")
    if not (folder / "best.json").exists():
        raise UserError(
            f"The study in {folder} is not finished; run the same 'pseudoval tune' again to go on."
        )
    return Run(
        folder=folder,
        header=read_json(folder / "run.json", "The run's header"),
        best=read_json(folder / "best.json", "The run's choice"),
        pseudo=ScoreMatrix.load(folder / "pseudo_scores.npz"),
    )


def evaluate(run_folder: Path, data: Path, *, device: str, progress: Progress) -> ScoreMatrix:
    """Score every tuned configuration on the real test images of the RUN's categories.

    Writes ``RUN/test_scores.npz`` and examples. What was scored before with the same model on the
    same images is not scored again.

    Raises:
        UserError: DATA lacks a category, or a category lacks defects or normals; the model is
            missing or is not the one that was tuned.
    """
    from pseudoval.detectors.feature_models import open_detector

    run = load_run(run_folder)
    items = real_test_items(data, run.header["categories"])
    target = run.folder / "test_scores.npz"
    done = _finished(target, items, run)
    if done is not None:
        return done
    detector = open_detector(run.model, seed=int(run.header["seed"]), device=device)
    if detector.model_sha256 != run.best["model_sha256"]:
        raise UserError(
            f"The model in {run.model} is not the one that {run.folder} was tuned with; restore "
            "it, or tune again."
        )
    blocks = run.folder / "blocks"
    matrix = score_further(
        detector,
        items,
        run.pseudo.configs,
        known=target,
        name="test",
        store=blocks,
        progress=progress,
    )
    write_examples(
        run.folder / "examples", "test", detector, items, matrix, run.best["params"], progress
    )
    matrix.save(target)
    forget_blocks(blocks)
    return matrix


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


def table(matrix: ScoreMatrix, config: Config) -> list[str]:
    """The figures of one configuration as lines for a terminal, per category and their mean."""
    row = matrix.row(config)
    image = auroc_by_category(matrix.scores[[row]], matrix.categories, matrix.labels)[0]
    columns = {"image AUROC": image}
    columns |= {name.replace("_", " "): matrix.pixel[name][row] for name in PIXEL_METRICS}
    lines = [f"{'category':<16}" + "".join(f"{name:>14}" for name in columns)]
    for place, category in enumerate(matrix.category_names):
        cells = [_cell(values[place]) for values in columns.values()]
        lines.append(f"{category:<16}" + "".join(f"{cell:>14}" for cell in cells))
    means = [
        _cell(np.mean(known))
        if (known := [v for v in values if not np.isnan(v)])
        else _cell(np.nan)
        for values in columns.values()
    ]
    lines.append(f"{'mean':<16}" + "".join(f"{cell:>14}" for cell in means))
    return lines


def _cell(value: float) -> str:
    return "n/a" if np.isnan(value) else f"{value:.4f}"


def _finished(path: Path, items: list[ImageItem], run: Run) -> ScoreMatrix | None:
    """The matrix at ``path`` if it is of these images, this model and these configurations."""
    if not path.exists():
        return None
    try:
        matrix = ScoreMatrix.load(path)
    except UserError:
        return None  # damaged: computed again
    wanted = {
        "data_sha256": sha256_json([[item.id, sha256_file(item.path)] for item in items]),
        "model_sha256": run.best["model_sha256"],
        "seed": run.header["seed"],
    }
    same = all(matrix.header.get(name) == value for name, value in wanted.items())
    return matrix if same and matrix.configs == run.pseudo.configs else None
