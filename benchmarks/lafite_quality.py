"""Quality of LafitE against nearest neighbours on the same features, and training throughput.

    python benchmarks/lafite_quality.py pack DATA --weights FILE --to FOLDER
    python benchmarks/lafite_quality.py run FOLDER --preset paper --grid 14 --work WORK --out FILE

``pack`` makes a small folder to carry to a machine with a GPU: the images as JPEG, a pseudo set
built of them, and the backbone's weights. ``run`` needs torch, timm, numpy, pandas, SciPy, Pillow
and matplotlib there, but neither faiss nor optuna nor albumentations. It trains one model of all
categories, chooses t without editing and K at that t on the pseudo set, scores the real test
images, and does the same for ``knn``. All of it is resumable: with ``--minutes`` it stops in time
with exit code 3, and the same command goes on.

FOLDER holds ``data`` (MVTec layout), ``pseudo`` and ``weights.safetensors``; each may also be
given by its own option, so that images need not be copied. WORK keeps the models; beside the
result FILE.json there is FILE.png with the curves over t and over K.
"""

import argparse
import dataclasses
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness import OutOfTime, StopWatch, result, show
from pseudoval.data.dataset import list_categories, test_items, train_normals
from pseudoval.data.files import write_bytes, write_json
from pseudoval.data.images import read_mask, read_rgb
from pseudoval.detectors import Detector
from pseudoval.metrics.image_metrics import auroc_by_category, macro_auroc
from pseudoval.metrics.result_table import METRICS, result_table, variants
from pseudoval.metrics.score_matrix import ScoreMatrix, config_name
from pseudoval.models.open import open_detector
from pseudoval.models.settings import configuration, find_device
from pseudoval.models.train import train
from pseudoval.pseudo_set.manifest import load_manifest, pseudo_items
from pseudoval.scoring.matrices import score_images
from pseudoval.statistics.correlation import correlations
from pseudoval.statistics.regret import regret
from pseudoval.statistics.rules import select_best
from reports import write_report
from throughput import matmul_flops, training_flops

JPEG_QUALITY = 95
MARGIN = 0.01
"""How far below nearest neighbours a category may lie by the goal of this benchmark."""


def pack(data: Path, weights: Path | None, to: Path) -> None:
    """Copy the train normals and the test images as JPEG, masks as PNG, and build a pseudo set."""
    from PIL import Image

    from pseudoval.pseudo_set.build import build

    for category in list_categories(data):
        normals = [(path, None) for path in train_normals(data, category)]
        tests = [(item.path, item.mask_path) for item in test_items(data, category)]
        for path, mask in [*normals, *tests]:
            target = to / "data" / path.relative_to(data).with_suffix(".jpg")
            target.parent.mkdir(parents=True, exist_ok=True)
            pixels = read_rgb(path)
            Image.fromarray(pixels).save(target, quality=JPEG_QUALITY, subsampling=0)
            if mask is not None:
                copy = to / "data" / mask.relative_to(data).with_suffix(".png")
                copy.parent.mkdir(parents=True, exist_ok=True)
                found = read_mask(mask, pixels.shape[:2])
                Image.fromarray(found.astype(np.uint8) * 255).save(copy)
    if weights is not None:
        shutil.copyfile(weights, to / "weights.safetensors")
    build(to / "data", to / "pseudo", seed=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What one run measures."""

    data: Path
    pseudo: Path
    weights: Path | None
    work: Path
    preset: str
    settings: dict[str, str]
    epochs: int | None
    device: str
    seed: int


def measure(job: Job, watch: StopWatch) -> dict[str, Any]:
    """Train, choose and score both detectors.

    Raises:
        OutOfTime: the time is up; what is done is kept.
    """
    manifest = load_manifest(job.pseudo)
    report: dict[str, Any] = {"categories": manifest["categories"], "detectors": {}}
    pseudo = pseudo_items(job.pseudo, manifest)
    real = [item for category in manifest["categories"] for item in test_items(job.data, category)]
    report["images"] = {"pseudo": len(pseudo), "test": len(real)}
    for name in ("knn", "lafite"):
        folder = job.work / name
        with watch.timing(f"{name}/train"):
            train(
                job.data,
                job.pseudo,
                folder,
                detector=name,
                preset=job.preset,
                weights=job.weights,
                epochs=job.epochs,
                settings=job.settings,
                device=job.device,
                seed=job.seed,
                resume=True,
                progress=watch,
            )
        detector = open_detector(folder, seed=job.seed, device=job.device)
        report["detectors"][name] = choose_and_score(detector, pseudo, real, folder, watch)
    return report


def choose_and_score(
    detector: Detector, pseudo: Any, real: Any, folder: Path, watch: StopWatch
) -> dict[str, Any]:
    """The stages of the study on the pseudo set, then all their configurations on the test set."""
    chosen: dict[str, int] = {"k": 0} if detector.name == "lafite" else {}
    stages = []
    for parameter in detector.parameters:
        if parameter.needs_fit:
            continue  # the model's own memory bank
        configs = [{**chosen, parameter.name: value} for value in parameter.grid]
        with watch.timing(f"{detector.name}/tune"):
            on_pseudo = scored(detector, pseudo, configs, f"pseudo-{parameter.name}", folder, watch)
        with watch.timing(f"{detector.name}/evaluate"):
            on_test = scored(detector, real, configs, f"test-{parameter.name}", folder, watch)
        curves = [macro_auroc(m.scores, m.categories, m.labels) for m in (on_pseudo, on_test)]
        row = select_best(configs, curves[0])
        agreement = correlations(*(curve[:, None] for curve in curves))
        known = {name: float(one[0]) for name, one in agreement.items() if not np.isnan(one[0])}
        chosen = {key: int(value) for key, value in configs[row].items()}
        stages.append(
            {
                "param": parameter.name,
                "values": list(parameter.grid),
                "pseudo_auroc": curves[0].tolist(),
                "test_auroc": curves[1].tolist(),
                "per_category": {
                    which: dict(zip(m.category_names, by_category(m).T.tolist(), strict=True))
                    for which, m in (("pseudo", on_pseudo), ("test", on_test))
                },
                "selected": parameter.grid[row],
                "regret": regret(curves[1], row),
                "spearman": known.get("spearman"),
                "kendall": known.get("kendall"),
            }
        )
    wanted = [*variants(detector.name, chosen).values()]
    final = scored(detector, real, wanted, "test-final", folder, watch)
    return {
        "params": chosen,
        "stages": stages,
        "variants": {
            row["variant"]: {
                "per_category": {name: plain(c) for name, c in row["per_category"].items()},
                "mean": plain(row["mean"]),
                "inter_category_std": plain(row["inter_category_std"]),
            }
            for row in result_table({"": final}, chosen)["variants"]
        },
        "model_sha256": detector.model_sha256,
    }


def scored(
    detector: Detector, items: Any, configs: Sequence[Any], name: str, folder: Path, watch: Any
) -> ScoreMatrix:
    """A score matrix that is kept in the work folder."""
    path = folder / "scores" / f"{name}.npz"
    if path.exists():
        found = ScoreMatrix.load(path)
        same = found.header.get("model_sha256") == detector.model_sha256
        if same and found.configs == [dict(config) for config in configs]:
            return found
    store = folder / "blocks"
    matrix = score_images(detector, items, configs, name=name, store=store, progress=watch)
    matrix.save(path)
    shutil.rmtree(store / name, ignore_errors=True)
    return matrix


def draw_curves(work: Path, picture: Path) -> None:
    """The curves of LafitE over t and over K, pseudo and real, as a report draws them."""
    tables = {}
    for which in ("pseudo", "test"):
        parts = [ScoreMatrix.load(work / "lafite" / "scores" / f"{which}-{p}.npz") for p in "tk"]
        whole = ScoreMatrix.joined(parts)
        table = pd.DataFrame(
            {"image": whole.images, "category": whole.categories, "label": whole.labels,
             "group": whole.groups}
            | {config_name(c): row for c, row in zip(whole.configs, whole.scores, strict=True)}
        )  # fmt: skip
        tables[which] = work / f"{which}.csv"
        table.to_csv(tables[which], index=False)
    folder = write_report([], work / "report", scores=tables["pseudo"], test_scores=tables["test"])
    write_bytes(picture, (folder / "curves.png").read_bytes())


def by_category(matrix: ScoreMatrix) -> np.ndarray:
    """Image AUROC ``[configs, categories]``."""
    return auroc_by_category(matrix.scores, matrix.categories, matrix.labels)


def plain(cells: dict[str, Any]) -> dict[str, float | None]:
    """The values of one row of a result table, which of one seed have no deviation."""
    return {metric: cell["value"] for metric, cell in cells.items()}


def summary(report: dict[str, Any], job: Job, watch: StopWatch) -> dict[str, Any]:
    """The figures and checks of the result file."""
    found = {
        "lafite": report["detectors"]["lafite"]["variants"]["with editing"],
        "knn": report["detectors"]["knn"]["variants"]["knn"],
    }
    compared = {
        f"{metric}_mean": {
            "ours": found["lafite"]["mean"][metric],
            "peer": found["knn"]["mean"][metric],
            "peer_name": "nearest neighbours on the same features",
            "ratio": found["lafite"]["mean"][metric] / found["knn"]["mean"][metric],
            "unit": "1",
        }
        for metric in METRICS
        if found["lafite"]["mean"][metric] is not None
    }
    gaps = {
        category: row["image_auroc"] - found["knn"]["per_category"][category]["image_auroc"]
        for category, row in found["lafite"]["per_category"].items()
    }
    config = configuration(job.preset, None, job.epochs, job.settings)
    speed = watch.images_per_second("training")
    if speed is not None:
        facts = json.loads((job.work / "lafite" / "model.json").read_text())["info"]["training"]
        flops = training_flops(config) * speed
        peak = matmul_flops(job.device, facts["precision"])
        compared["training_flops"] = {
            "ours": flops,
            "peer": peak,
            "peer_name": f"a large {facts['precision']} matrix product in the same run",
            "ratio": flops / peak,
            "unit": "FLOP/s",
        }
        report["training"] = {**facts, "images_per_second": speed}
    report |= {"seconds": watch.seconds, "config": config.to_json()}
    return {
        "figures": compared,
        "checks": {
            "lafite_minus_knn": gaps,
            "lafite_at_least_knn_minus_margin": all(gap >= -MARGIN for gap in gaps.values()),
            "margin": MARGIN,
        },
        "report": report,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    packing = verbs.add_parser("pack")
    packing.add_argument("data", type=Path)
    packing.add_argument("--weights", type=Path, help="of the backbone, if it has any")
    packing.add_argument("--to", type=Path, required=True)
    running = verbs.add_parser("run")
    running.add_argument("folder", type=Path, nargs="?", default=Path())
    running.add_argument("--data", type=Path, help="[default: FOLDER/data]")
    running.add_argument("--pseudo", type=Path, help="[default: FOLDER/pseudo]")
    running.add_argument("--weights", type=Path, help="[default: FOLDER/weights.safetensors]")
    running.add_argument("--work", type=Path, required=True)
    running.add_argument("--out", type=Path, required=True)
    running.add_argument("--preset", default="cpu")
    running.add_argument("--grid", type=int)
    running.add_argument("--epochs", type=int)
    running.add_argument("--set", action="append", default=[], metavar="SECTION.OPTION=VALUE")
    running.add_argument("--device", default="auto")
    running.add_argument("--seed", type=int, default=0)
    running.add_argument("--minutes", type=float, help="stop in time; the same command goes on")
    options = parser.parse_args(arguments)
    if options.verb == "pack":
        pack(options.data, options.weights, options.to)
        return 0
    settings = dict(pair.split("=", 1) for pair in options.set)
    if options.grid is not None:
        settings["features.grid"] = str(options.grid)
    plain = settings.get("features.backbone") == "filterbank" or options.preset == "demo"
    job = Job(
        data=options.data or options.folder / "data",
        pseudo=options.pseudo or options.folder / "pseudo",
        weights=None if plain else options.weights or options.folder / "weights.safetensors",
        work=options.work,
        preset=options.preset,
        settings=settings,
        epochs=options.epochs,
        device=find_device(options.device),
        seed=options.seed,
    )
    job.work.mkdir(parents=True, exist_ok=True)
    normals = len(load_manifest(job.pseudo)["bank_sha256"])
    watch = StopWatch(job.work / "seconds.json", options.minutes, images={"training": normals})
    try:
        found = summary(measure(job, watch), job, watch)
    except OutOfTime as stop:
        print(f"{stop}; the same command goes on.", file=sys.stderr)
        return 3
    draw_curves(job.work, options.out.with_suffix(".png"))
    show(found)
    write_json(options.out, result(found, device=job.device, seed=job.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
