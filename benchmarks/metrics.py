"""Exact pixel figures against scikit-learn's and anomalib's.

    python benchmarks/metrics.py [--quick] [--out FILE.json]

``pixel_auroc_5m``: pixel AUROC, AP and AUPRO together, from maps and masks, against scikit-learn's
``roc_auc_score`` alone on the same pixels (5 million; fewer with ``--quick``). ``aupro``: the same
call against anomalib's AUPRO on the same maps and masks; null where anomalib is not installed.
Images and masks are the real ones in ``PSEUDOVAL_SHARED`` where there are some, else rendered; a
map is how far a pixel is from its surroundings, smoothed. The limit is one pass over the bytes of
maps and masks at the measured speed of a copy.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from harness import result, show
from pseudoval.data.dataset import ImageItem, list_categories, test_items
from pseudoval.data.files import write_json
from pseudoval.data.images import read_mask, read_rgb
from pseudoval.metrics.pixel_metrics import pixel_metrics

SIDE = 224
IMAGES = 100
"""Of 224 x 224 pixels: 5,017,600."""


def real_maps(count: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Maps and masks ``[count, 224, 224]`` of real test images; None where there are none."""
    data = Path(os.environ.get("PSEUDOVAL_SHARED", "../shared")) / "data" / "real"
    if not data.is_dir():
        return None
    items = [
        item for category in list_categories(data) for item in test_items(data, category)
        if item.mask_path is not None or item.label == 0
    ]  # fmt: skip
    places = np.linspace(0, len(items) - 1, count).astype(int)
    pairs = [_real(items[place]) for place in places]
    return np.stack([m for m, _ in pairs]), np.stack([mask for _, mask in pairs])


def _real(item: ImageItem) -> tuple[np.ndarray, np.ndarray]:
    image = read_rgb(item.path)
    mask = np.zeros(image.shape[:2], dtype=bool)
    if item.mask_path is not None:
        mask = read_mask(item.mask_path, mask.shape)
    rows, columns = (((np.arange(SIDE) + 0.5) * n / SIDE).astype(int) for n in mask.shape)
    small = image[rows[:, None], columns].astype(np.float32).mean(axis=2)
    return _unlike(small), mask[rows[:, None], columns]


def rendered_maps(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with squares in it, ``[count, 224, 224]``."""
    rng = np.random.default_rng(0)
    grey = rng.standard_normal((count, SIDE, SIDE)).astype(np.float32)
    masks = np.zeros(grey.shape, dtype=bool)
    for mask in masks[::2]:
        row, column = rng.integers(0, SIDE - 40, 2)
        mask[row : row + 40, column : column + 30] = True
    return np.stack([_unlike(image) for image in grey + masks]), masks


def _unlike(grey: np.ndarray) -> np.ndarray:
    """How far each pixel is from its surroundings, smoothed; float32."""
    apart = np.abs(grey - ndimage.gaussian_filter(grey, 12))
    return np.asarray(ndimage.gaussian_filter(apart, 4), dtype=np.float32)


def anomalib_aupro(maps: np.ndarray, masks: np.ndarray) -> float | None:
    """The peer's figure; None where it is not installed."""
    try:
        import torch
        from anomalib.metrics.aupro import _AUPRO
    except ImportError:
        return None
    metric = _AUPRO(fpr_limit=0.3)
    metric.update(torch.from_numpy(maps), torch.from_numpy(masks).int())
    return float(metric.compute())


def timed(function: Callable[[], Any], repetitions: int) -> tuple[float, Any]:
    """The shortest of several runs in seconds, and what the function returns."""
    times = []
    for _ in range(repetitions):
        started = time.perf_counter()
        found = function()
        times.append(time.perf_counter() - started)
    return min(times), found


def copy_speed() -> float:
    """Bytes per second read in a copy of 256 MB, the fastest of five."""
    source = np.ones(2**28, dtype=np.uint8)
    target = np.empty_like(source)
    seconds, _ = timed(lambda: np.copyto(target, source), 5)
    return source.nbytes / seconds


def measure(quick: bool) -> dict[str, Any]:
    """All figures and checks."""
    count = 10 if quick else IMAGES
    found = None if quick else real_maps(count)
    maps, masks = rendered_maps(count) if found is None else found
    flat, truth = maps.ravel(), masks.ravel()
    repetitions = 2 if quick else 5
    ours, figures = timed(lambda: pixel_metrics(maps, masks), repetitions)
    sklearn, auroc = timed(lambda: roc_auc_score(truth, flat), 2)
    anomalib, aupro = timed(lambda: anomalib_aupro(maps, masks), 1)
    speed = copy_speed()
    limit = (maps.nbytes + masks.nbytes) / speed
    table: dict[str, Any] = {
        "pixel_auroc_5m": {
            "ours": ours, "peer": sklearn, "ratio": sklearn / ours, "unit": "s",
            "peer_name": "scikit-learn roc_auc_score", "limit": limit,
        },
    }  # fmt: skip
    if aupro is not None:
        table["aupro"] = {
            "ours": ours, "peer": anomalib, "ratio": anomalib / ours, "unit": "s",
            "peer_name": "anomalib AUPRO", "limit": limit,
        }  # fmt: skip
    return {
        "figures": table,
        "checks": {
            "pixels": maps.size,
            "images": "rendered" if found is None else "real",
            "anomalous_share": float(masks.mean()),
            "auroc_minus_scikit_learn": figures.auroc - float(auroc),
            "ap_minus_scikit_learn": figures.ap - float(average_precision_score(truth, flat)),
            "aupro_minus_anomalib": None if aupro is None else figures.aupro - aupro,
            "copy_bytes_per_second": speed,
            "limit_seconds": limit,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the pixels, rendered")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = result(measure(arguments.quick), device="cpu", seed=0)
    show(found)
    if "aupro" not in found["figures"]:
        print("aupro: not measured, anomalib is not installed")
    if arguments.out is not None:
        write_json(arguments.out, found)


if __name__ == "__main__":
    main()
