"""How few network evaluations do, against the AUROCs of DDIM over the whole grid of t.

    python benchmarks/solver.py --data DATA --model MODEL --work WORK [--images N] [--limit]
        [--out FILE.json]
    python benchmarks/solver.py --quick

Real test images, at most N of each category and class, are scored at every t of the default grid
without editing: by DDIM with as many evaluations as the model has steps (the reference), by the
same steps with half of the evaluations (``diffusion.evaluations``), by DDIM in half as many steps,
and with ``--limit`` in twice as many, which says how far the reference itself is from its limit.
``solver_evaluations``: half the evaluations beside those of the reference. Checks: the largest and
the mean difference of an image AUROC, over all t and categories and for the mean over the
categories, for each; and whether the same steps with half of the evaluations are within 0.002.

Resumable: matrices and finished blocks are kept in WORK. Without MODEL, or with ``--quick``, a tiny
model on rendered images is used.
"""

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness import result, show
from pseudoval.data.dataset import ImageItem, test_items
from pseudoval.data.files import write_json
from pseudoval.metrics.image_metrics import auroc_by_category
from pseudoval.metrics.score_matrix import ScoreMatrix
from pseudoval.models.open import open_detector
from pseudoval.models.settings import find_device
from pseudoval.progress import Progress
from pseudoval.scoring.blocks import forget_blocks
from pseudoval.scoring.matrices import score_images
from sweep import cores, make_model, spread

MARGIN = 0.002
"""How far an AUROC may lie from that of DDIM by the goal of this benchmark."""

Settings = Mapping[str, str]


def candidates(steps: int, limit: bool = False) -> dict[str, Settings]:
    """What is compared, for a model that takes so many DDIM steps.

    The reference comes first, the same steps with half of the evaluations second.
    """
    half, twice = max(1, steps // 2), 2 * steps
    found: dict[str, Settings] = {
        f"ddim {steps}": {"diffusion.sampling_steps": str(steps)},
        f"ddim {steps}, {half} evaluations": {
            "diffusion.sampling_steps": str(steps), "diffusion.evaluations": str(half)
        },
        f"ddim {half}": {"diffusion.sampling_steps": str(half)},
    }  # fmt: skip
    if limit:
        found[f"ddim {twice}"] = {"diffusion.sampling_steps": str(twice)}
    return found


def scored(
    model: Path, items: list[ImageItem], settings: Settings, name: str, work: Path, device: str
) -> ScoreMatrix:
    """The matrix over the default grid of t without editing, kept in ``work``."""
    detector = open_detector(model, seed=0, device=device, settings=settings)
    configs = [{"t": t, "k": 0} for t in detector.parameters[0].grid]
    label = name.replace(",", "").replace(" ", "-")
    path = work / f"{label}.npz"
    if path.exists():
        kept = ScoreMatrix.load(path)
        same = kept.header.get("model_sha256") == detector.model_sha256
        if same and kept.images == [item.id for item in items] and kept.configs == configs:
            return kept
    blocks = work / "blocks"
    matrix = score_images(detector, items, configs, name=label, store=blocks, progress=Progress())
    matrix.save(path)
    forget_blocks(blocks / label)
    return matrix


def apart(matrix: ScoreMatrix, reference: ScoreMatrix) -> dict[str, Any]:
    """How far the AUROCs of two matrices of the same images and configurations are apart."""
    tables = [
        auroc_by_category(one.scores, one.categories, one.labels) for one in (matrix, reference)
    ]
    difference = np.abs(tables[0] - tables[1])  # [t, categories]
    macro = np.abs(tables[0].mean(1) - tables[1].mean(1))
    best = [int(table.mean(1).argmax()) for table in tables]
    moved = matrix.scores - reference.scores
    return {
        "largest": float(difference.max()),
        "mean": float(difference.mean()),
        "largest_of_the_mean_over_categories": float(macro.max()),
        "largest_by_category": dict(
            zip(matrix.category_names, difference.max(0).tolist(), strict=True)
        ),
        "by_t": dict(
            zip([str(c["t"]) for c in matrix.configs], difference.max(1).tolist(), strict=True)
        ),
        "rms_of_scores_in_deviations": float(
            np.sqrt((moved**2).mean(1) / reference.scores.var(1)).mean()
        ),
        "chooses_the_same_t": best[0] == best[1],
    }


def measure(arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    """All of them against the reference."""
    device = find_device(arguments.device)
    torch.set_num_threads(arguments.threads or cores())
    data, model = arguments.data, arguments.model
    if arguments.quick or model is None or data is None:
        own = work / "own"
        if not (own / "model" / "model.json").exists():
            own.mkdir(parents=True, exist_ok=True)
            make_model(own, True, device)
        data, model = own / "images", own / "model"
    first = open_detector(model, seed=0)
    count = arguments.images or (4 if arguments.quick else 60)
    items = [
        item
        for category in first.categories
        for label in (0, 1)
        for item in spread([i for i in test_items(data, category) if i.label == label], count)
    ]
    steps = arguments.steps or first.model.config.diffusion.sampling_steps  # type: ignore[attr-defined]
    compared = candidates(steps, arguments.limit)
    reference_name, *names = compared
    matrices = {
        name: scored(model, items, settings, name, work, device)
        for name, settings in compared.items()
    }
    found = {name: apart(matrices[name], matrices[reference_name]) for name in names}
    half, named = max(1, steps // 2), found[names[0]]
    return {
        "figures": {
            "solver_evaluations": {
                "ours": half,
                "peer": steps,
                "ratio": steps / half,
                "unit": "evaluations a trajectory",
                "peer_name": "DDIM",
            },
        },
        "checks": {
            "images": len(items),
            "categories": matrices[reference_name].category_names,
            "configurations": len(matrices[reference_name].configs),
            "named": names[0],
            "largest_auroc_difference": named["largest"],
            "largest_macro_auroc_difference": named["largest_of_the_mean_over_categories"],
            "within_0.002": named["largest"] <= MARGIN,
            "macro_within_0.002": named["largest_of_the_mean_over_categories"] <= MARGIN,
            "against_the_reference": found,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--work", type=Path, help="keeps what is finished")
    parser.add_argument("--images", type=int, help="of each category and class  [default: 60]")
    parser.add_argument("--steps", type=int, help="of the reference  [default: the model's]")
    parser.add_argument("--limit", action="store_true", help="also twice as many steps")
    parser.add_argument("--device", default="cpu", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--threads", type=int, help="[default: all cores]")
    parser.add_argument("--quick", action="store_true", help="rendered images and a tiny model")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        found = measure(arguments, work)
    found = result(found, device=find_device(arguments.device), seed=0)
    show(found)
    for name, values in found["checks"]["against_the_reference"].items():
        mean = values["largest_of_the_mean_over_categories"]
        print(
            f"  {name:<24} largest {values['largest']:.4f}, of the mean over categories {mean:.4f}"
        )
    if arguments.out is not None:
        write_json(arguments.out, found)


if __name__ == "__main__":
    main()
