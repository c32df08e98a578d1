"""RUN folders with known scores, for the tests of reports."""

import json
from pathlib import Path

import numpy as np

from pseudoval.data.files import claim_folder, write_json, write_npz
from pseudoval.metrics.image_metrics import macro_auroc
from pseudoval.metrics.score_matrix import ScoreMatrix
from pseudoval.statistics.rules import select_best

CONFIGS = [{"t": t, "k": k} for t, k in ((100, 0), (200, 0), (300, 0), (200, 2), (200, 9))]


HEADER = {
    "study": "t_then_k", "model": "../model", "pseudo": ["../pseudo set"], "seed": 7,
    "grids": {"t": [100, 200, 300], "k": [2, 9]}, "objective": "macro_image_auroc",
    "rule": "best", "repeats": 1, "device": "cpu", "scoring": {}, "study_name": "t_then_k",
    "storage": "postgresql://user:secret@host/db", "versions": {"numpy": "2.x"},
}  # fmt: skip
"""What ``run.json`` says."""


def score_matrix(
    seed: int, categories: tuple[str, ...] = ("cable", "tire"), **more: object
) -> ScoreMatrix:
    """Scores of twenty images a category; on ``seed`` 1 t = 200 and then K = 2 are the best."""
    rng = np.random.default_rng(seed)
    names = [name for name in categories for _ in range(20)]
    labels = np.arange(len(names)) % 2
    strength = np.array([0.5, 1.6, 1.0, 2.0, 1.8])[:, None]
    return ScoreMatrix(
        scores=strength * labels + rng.standard_normal((5, len(names))),
        configs=CONFIGS,
        images=[f"{name}/{i}.png" for i, name in enumerate(names)],
        categories=names,
        labels=labels,
        groups=[str(i) for i in range(len(names))],
        **more,  # type: ignore[arg-type]
    )


def make_run(
    folder: Path,
    categories: tuple[str, ...] = ("cable", "tire"),
    *,
    test: bool = True,
    seed: int = 1,
) -> Path:
    """A finished RUN; its last category has no masks, its first one has the examples."""
    pseudo = score_matrix(seed, categories)
    values = macro_auroc(pseudo.scores, pseudo.categories, pseudo.labels)
    first = select_best(CONFIGS[:3], values[:3])
    last = 3 + select_best(CONFIGS[3:], values[3:])
    stages = [
        _stage("t", [100, 200, 300], CONFIGS[:3], values[:3], CONFIGS[first]["t"]),
        _stage("k", [2, 9], CONFIGS[3:], values[3:], CONFIGS[last]["k"]),
    ]
    claim_folder(folder, "run")
    best = {"params": CONFIGS[last], "pseudo_auroc": values[last], "stages": stages}
    write_json(folder / "best.json", best)
    write_json(folder / "run.json", HEADER)
    pseudo.save(folder / "pseudo_scores.npz")
    if test:
        _write_test_scores(folder, categories, seed + 1)
    for number, (kind, label) in enumerate((("test", 0), ("pseudo", 1), ("test", 1), ("test", 1))):
        if test or kind == "pseudo":
            write_example(folder / "examples" / f"{kind}-{number}.npz", kind, label, categories[0])
    return folder


def _write_test_scores(folder: Path, categories: tuple[str, ...], seed: int) -> None:
    pixel = {"pixel_auroc": np.full((5, len(categories)), 0.9)}
    pixel["pixel_auroc"][:, -1] = np.nan
    reasons = [*[""] * (len(categories) - 1), "no masks & no ground truth"]
    matrix = score_matrix(seed, categories, pixel=pixel, pixel_reason=reasons)
    matrix.save(folder / "test_scores.npz")


def _stage(name: str, values: list, configs: list, aurocs: np.ndarray, selected: object) -> dict:
    return {
        "name": name,
        "param": name,
        "values": values,
        "configs": configs,
        "pseudo_auroc": aurocs.tolist(),
        "selected": selected,
    }


def write_example(path: Path, kind: str, label: int, category: str, **other: np.ndarray) -> None:
    """An example whose map rises to the lower right corner; ``other`` replaces its arrays."""
    image = np.zeros((24, 32, 3), dtype=np.uint8)
    mask = np.zeros((24, 32), dtype=np.uint8)
    mask[8:12, 8:16] = label
    meta = {"id": f"{category}/<{path.stem}>", "category": category, "label": label, "set": kind}
    arrays = {
        "image": image,
        "mask": mask,
        "has_mask": np.array(label == 1 and kind == "pseudo"),
        "map": np.arange(48, dtype=np.float32).reshape(6, 8) * (1 + label),
        "error_plain": np.zeros((6, 8), dtype=np.float32),
        "error_edited": np.ones((6, 8), dtype=np.float32),
        "meta": np.array(json.dumps({**meta, "config": {}, "score": 0.5})),
    }
    write_npz(path, arrays | other)
