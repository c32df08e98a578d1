"""A whole study against a plain loop over its trials, and what the sweep takes beside the network.

    python benchmarks/sweep.py [--quick] [--out FILE.json]
    python benchmarks/sweep.py --data DATA --model MODEL --pseudo PSEUDO [--images N]

``sweep_study``: the study ``t_then_k`` on the default grids on the pseudo set, then every tuned
configuration on the real test set, from image files to score matrices and figures; the peer is
``plain_loop.py``, which scores the same trials with as many DDIM steps. N images of each category
and class are taken of both sets. ``sweep_beside_network_ms``: processor time per image and
configuration outside of the two networks, spread over all cores, of a sweep over t and one over K;
the peer is the same figure of the plain loop.

Without MODEL one is trained for an epoch, on the real categories in ``PSEUDOVAL_SHARED`` with the
weights there; ``--quick`` takes rendered images and a tiny model. Speed does not depend on what
the weights are, but the choice of t does.
"""

import argparse
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from harness import result, show
from lafite_core import sweep as core
from lafite_core.model import LafiteModel
from plain_loop import PlainLoop
from pseudoval.data import dataset, images
from pseudoval.data.dataset import ImageItem, test_items
from pseudoval.data.files import claim_folder, write_json
from pseudoval.metrics.score_matrix import ScoreMatrix
from pseudoval.models.open import open_detector
from pseudoval.models.settings import find_device
from pseudoval.progress import Progress, silent
from pseudoval.pseudo_set.manifest import load_manifest, pseudo_items
from pseudoval.scoring import matrices as sweep
from pseudoval.scoring import pixels
from pseudoval.scoring.evaluate import evaluate_run
from studies import run_study

NETWORKS = ("network", "features")
"""Parts that are a network's: the denoiser, and the backbone with the resizing before it."""
ROUNDING = 1e-3
"""Largest relative difference of two scores that differ in rounding only."""


class Clock:
    """Seconds by named part: processor time of every thread, or of a GPU the time until it is done.

    A part inside another is not counted in the outer one.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()
        self._inside = threading.local()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the block."""
        outer = getattr(self._inside, "spent", 0.0)
        self._inside.spent = 0.0
        started = self._now()
        try:
            yield
        finally:
            whole = self._now() - started
            with self._lock:
                self.seconds[name] = self.seconds.get(name, 0.0) + whole - self._inside.spent
            self._inside.spent = outer + whole

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, counted."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return call

    def _now(self) -> float:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)
            return time.perf_counter()
        return time.thread_time()


def sweep_parts(detector: Any, items: Sequence[ImageItem], configs: Sequence[Any]) -> Clock:
    """Time the parts of one sweep from image files to the score matrix."""
    model = detector.model
    clock = Clock(model.device)
    places: list[tuple[Any, str, str]] = [
        (images, "read_rgb", "decode"),
        (dataset, "sha256_file", "hashing"),
        (pixels, "pixel_metrics", "pixel figures"),
        (pixels, "label_regions", "pixel figures"),
        (pixels, "_mask", "pixel figures"),
        (detector, "render", "pixel figures"),
        (model, "features", "feature look-up"),
        (model._features, "_find", "feature look-up"),
        (model._features.extractor, "extract_all", "features"),
        (model.bank, "search", "neighbours"),
        (model.bank, "edit", "editing"),
        (core, "image_noise", "noise"),
        (core, "error_map", "error maps"),
        (core, "image_scores", "image scores"),
        (core, "denoise", "arithmetic of the solver"),
        (model.network, "forward", "network")
        if model.device == "cpu"
        else (model.predictor, "_on_device", "network"),
    ]
    with ExitStack() as stack:
        for owner, name, part in places:
            changed = clock.timed(part, getattr(owner, name))
            stack.enter_context(mock.patch.object(owner, name, changed))
        started = time.perf_counter()
        sweep.score_images(detector, items, configs, name="sweep")
        clock.seconds["wall"] = time.perf_counter() - started
    return clock


def beside_network(
    model: Path, items: Sequence[ImageItem], device: str, at_once: int
) -> dict[str, Any]:
    """Milliseconds per image and configuration by part, ours and the plain loop's."""
    detector = open_detector(model, seed=0, device=device, cache=False)
    t, k = (parameter for parameter in detector.parameters if not parameter.needs_fit)
    ts = [{"t": value, "k": 0} for value in t.grid]
    ks = [{"t": t.default, "k": value} for value in k.grid]
    sweep.score_images(detector, items[:1], ts[:1], name="warming up")
    ours: dict[str, float] = {}
    for configs in (ts, ks):
        for name, seconds in sweep_parts(detector, items, configs).seconds.items():
            ours[name] = ours.get(name, 0.0) + seconds
    share = 1000 / (len(items) * (len(ts) + len(ks)))
    wall = ours.pop("wall") * share
    # One call searches the neighbours of all images, with all threads; the rest is side by side.
    ours = {
        name: seconds * share / (1 if name == "neighbours" else at_once)
        for name, seconds in ours.items()
    }
    clock = Clock(device)
    loop = PlainLoop(detector.model, items, 0, clock.part)  # type: ignore[attr-defined]
    trials = [(t.default, 0), (t.default, k.default)]
    for trial in trials:
        loop.trial(*trial)
    # Ours is added up over threads side by side; this loop's one thread leads all the others.
    share = 1000 / (len(items) * len(trials))
    plain = {name: seconds * share for name, seconds in clock.seconds.items()}
    return {"ours": ours, "plain": plain, "wall": wall}


def outside(parts: dict[str, float]) -> float:
    """Milliseconds outside of the networks."""
    return sum(value for name, value in parts.items() if name not in NETWORKS)


def whole_study(
    data: Path, model: Path, pseudo: Path, work: Path, device: str
) -> tuple[dict[str, float], dict[str, Any]]:
    """Seconds of the study, ours and the plain loop's, and how far their scores are apart."""
    out, seconds = work / "run", dict[str, float]()
    # A cache of its own, empty at first, so that features are extracted within the time.
    shared: dict[str, Any] = {
        "device": device,
        "cache": work / "features",
        "progress": Progress(),
    }
    started = time.perf_counter()
    run_study("t_then_k", model=model, pseudo=pseudo, out=out, **shared)
    seconds["ours: study"] = time.perf_counter() - started
    started = time.perf_counter()
    evaluate_run(out, data, **shared)
    seconds["ours: test set"] = time.perf_counter() - started

    categories = load_manifest(pseudo)["categories"]
    sets = {
        "study": ("pseudo_scores.npz", pseudo_items(pseudo)),
        "test set": ("test_scores.npz", [i for c in categories for i in test_items(data, c)]),
    }
    apart, values, total = 0.0, 0.0, 0
    with torch.inference_mode():
        for name, (file, items) in sets.items():
            matrix = ScoreMatrix.load(out / file)
            started = time.perf_counter()
            loop = PlainLoop(LafiteModel.load(model, device), items, 0, _untimed)
            found = [loop.trial(int(c["t"]), int(c["k"])) for c in matrix.configs]
            seconds[f"plain: {name}"] = time.perf_counter() - started
            scores = np.array([scores for scores, _ in found])
            apart = max(apart, float(np.abs(scores / matrix.scores - 1).max()))
            theirs = np.array([list(auroc.values()) for _, auroc in found])
            mine = _auroc(matrix)
            values = max(values, float(np.abs(theirs - mine).max()))
            total += len(items)
    return seconds, {
        "images": total,
        "configurations": len(matrix.configs),
        "largest_relative_difference_of_a_score": apart,
        "largest_difference_of_an_auroc": values,
        "scores_equal_up_to_rounding": apart < ROUNDING,
    }


@contextmanager
def _untimed(name: str) -> Iterator[None]:
    yield


def _auroc(matrix: ScoreMatrix) -> np.ndarray:
    from pseudoval.metrics.image_metrics import auroc_by_category

    return auroc_by_category(matrix.scores, matrix.categories, matrix.labels)


def take_part(data: Path, pseudo: Path, work: Path, images: int) -> tuple[Path, Path]:
    """Folders with the first N images of each category and class of both sets."""
    manifest = load_manifest(pseudo)
    small = work / "pseudo"
    claim_folder(small, "pseudo")
    kept = []
    for category in manifest["categories"]:
        for label in (0, 1):
            of_class = [
                entry for entry in manifest["images"]
                if (entry["category"], entry["label"]) == (category, label)
            ]  # fmt: skip
            kept += spread(of_class, images)
    for entry in kept:
        for name in filter(None, (entry["path"], entry["mask"])):
            _copy(pseudo / name, small / name)
    write_json(small / "manifest.json", {**manifest, "images": kept})
    for category in manifest["categories"]:
        items = test_items(data, category)
        for label in (0, 1):
            for item in spread([item for item in items if item.label == label], images):
                for path in filter(None, (item.path, item.mask_path)):
                    _copy(path, work / "data" / path.relative_to(data))
    return work / "data", small


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def spread(entries: Sequence[Any], count: int) -> list[Any]:
    """So many of them, evenly spread."""
    places = np.linspace(0, len(entries) - 1, min(count, len(entries))).round().astype(int)
    return [entries[place] for place in places]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def make_model(work: Path, quick: bool, device: str) -> tuple[Path, Path, Path]:
    """DATA, MODEL and PSEUDO of this benchmark's own."""
    from pseudoval.demo import render_dataset
    from pseudoval.models.train import train
    from pseudoval.pseudo_set.build import build

    options: dict[str, Any] = {"preset": "demo", "epochs": 2}
    if quick:
        data = work / "images"
        data.mkdir()
        render_dataset(data, seed=0, size=64, train=12, test_good=4, defects_per_kind=2,
                       categories=["fabric"])  # fmt: skip
        options["settings"] = {
            "features.image_size": "64", "features.grid": "8", "unet.base_channels": "16",
            "unet.multipliers": "1,2", "diffusion.sampling_steps": "2", "score.pool": "8",
        }  # fmt: skip
    else:
        shared = Path(os.environ.get("PSEUDOVAL_SHARED", "../shared"))
        data = shared / "data" / "real"
        weights = next((shared / "weights").rglob("*efficientnet_b4*.safetensors"))
        options = {"weights": weights, "epochs": 1}
    pseudo, model = work / "whole_pseudo", work / "model"
    build(data, pseudo, progress=silent)
    train(data, pseudo, model, device=device, progress=Progress(), **options)
    return data, model, pseudo


def measure(arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Everything, in a folder of its own."""
    device = find_device(arguments.device)
    torch.set_num_threads(cores())
    at_once = cores() if device == "cpu" else 1
    given = arguments.data, arguments.model, arguments.pseudo
    data, model, pseudo = given if all(given) else make_model(work, arguments.quick, device)
    images = arguments.images or (4 if arguments.quick else 9)
    data, pseudo = take_part(data, pseudo, work, images)
    items = pseudo_items(pseudo)
    few = spread(items, 8 if arguments.quick else 32)
    parts = beside_network(model, few, device, at_once)
    seconds, checks = whole_study(data, model, pseudo, work, device)
    ours, plain = (
        sum(value for name, value in seconds.items() if name.startswith(who))
        for who in ("ours", "plain")
    )
    config = json.loads((model / "model.json").read_text())["config"]
    beside = outside(parts["ours"]), outside(parts["plain"])
    return {
        "figures": {
            "sweep_study": {
                "ours": ours,
                "peer": plain,
                "ratio": plain / ours,
                "unit": "s",
                "peer_name": "plain loop over the trials, batches of 16",
            },
            "sweep_beside_network_ms": {
                "ours": beside[0],
                "peer": beside[1],
                "ratio": beside[1] / beside[0],
                "unit": "ms per image and configuration",
                "peer_name": "the same plain loop",
            },
        },
        "checks": {
            **checks,
            "sampling_steps": config["diffusion"]["sampling_steps"],
            "cores": cores(),
            "seconds": seconds,
            "images_of_the_breakdown": len(few),
            "breakdown_ms": parts["ours"],
            "breakdown_of_the_plain_loop_ms": parts["plain"],
            "wall_ms": parts["wall"],
            "beside_network_at_most_1_ms": beside[0] <= 1,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--pseudo", type=Path)
    parser.add_argument("--images", type=int, help="of each category and class  [default: 9]")
    parser.add_argument("--device", default="cpu", metavar="auto|cpu|cuda[:N]")
    parser.add_argument("--quick", action="store_true", help="rendered images and a tiny model")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        found = measure(arguments, Path(work))
    device = find_device(arguments.device)
    found = result(found, device=device, seed=0)
    show(found)
    for name, value in found["checks"]["breakdown_ms"].items():
        print(f"  {name:<26}{value:>9.3f} ms")
    if arguments.out is not None:
        write_json(arguments.out, found)


if __name__ == "__main__":
    main()
