"""Resident memory of reading features from the cache, beside holding them all in memory.

    python benchmarks/cache.py [--quick] [--out FILE.json]

Made-up images and features of the model's size (272 channels on a 14 x 14 grid, 213 KB an image)
go into a cache, which a fresh process then reads image by image, as scoring does, for 1,000 and
for 10,000 images; the peer reads the same files into one tensor. Memory is what the process adds
to itself at its peak (``VmHWM``), so that libraries do not count. The checks also time the reading
beside the backbone's own arithmetic, and have the arithmetic for a large data set:

Real-IAD has about 150,000 images. At 272 x 14 x 14 in float32 that is 213 KB each and 32 GB in
all, at 272 x 32 x 32 1.11 MB and 167 GB: on disk, where both fit; nothing stays in memory.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness import result, show
from lafite_core.feature_cache import FeatureCache, pixel_digest
from pseudoval.data.files import write_json

SHAPE = (272, 14, 14)
REAL_IAD = 150_000
SETTINGS = {"made up": True}


def image(number: int) -> np.ndarray:
    """A small image of its own for every number."""
    return np.frombuffer(number.to_bytes(12, "little"), np.uint8).reshape(2, 2, 3)


def fill(folder: Path, count: int) -> float:
    """Write features of ``count`` images; megabytes per second."""
    cache = FeatureCache(folder, SETTINGS)
    features = torch.randn(*SHAPE, generator=torch.Generator().manual_seed(0))
    started = time.perf_counter()
    for number in range(count):
        cache.add(pixel_digest(image(number)), features)
    return count * bytes_per_image(SHAPE) / 1e6 / (time.perf_counter() - started)


def bytes_per_image(shape: tuple[int, ...]) -> int:
    """Of float32 features."""
    return 4 * int(np.prod(shape))


def peak_mb() -> float:
    """The most memory that this process ever had resident, in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000


def read(folder: Path, count: int, hold: bool) -> dict[str, float]:
    """Read everything, image by image, and forget it or hold it; in a process of its own."""
    cache = FeatureCache(folder, SETTINGS)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
    before, held, total = peak_mb(), torch.empty(0), 0.0
    if hold:
        held = torch.empty(count, *SHAPE)
    started = time.perf_counter()
    for number in range(count):
        found = cache.find(pixel_digest(image(number)))
        if found is None:
            raise RuntimeError(f"image {number} is not in the cache")
        if hold:
            held[number] = found
        total += float(found[0, 0, 0])
    seconds = time.perf_counter() - started
    return {"mb": peak_mb() - before, "ms": 1000 * seconds / count, "total": total}


def in_a_process(folder: Path, count: int, hold: bool) -> dict[str, float]:
    """``read`` in a fresh interpreter."""
    command = [sys.executable, __file__, "--read", str(folder), str(count), str(int(hold))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(sizes: tuple[int, int], place: Path | None) -> dict[str, Any]:
    """Figures and checks for a small and a large number of images."""
    checks: dict[str, Any] = {}
    found: dict[tuple[int, bool], dict[str, float]] = {}
    for count in sizes:
        with tempfile.TemporaryDirectory(dir=place) as folder:
            checks[f"write_mb_per_second_{count}"] = fill(Path(folder), count)
            for hold in (False, True):
                found[count, hold] = in_a_process(Path(folder), count, hold)
    few, many = sizes
    ours, peer = found[many, False], found[many, True]
    grids = {f"{side}x{side}": (272, side, side) for side in (14, 32)}
    checks |= {
        "images": list(sizes),
        "cache_mb": {str(n): found[n, False]["mb"] for n in sizes},
        "in_memory_mb": {str(n): found[n, True]["mb"] for n in sizes},
        "mb_more_for_the_larger": found[many, False]["mb"] - found[few, False]["mb"],
        "bytes_of_memory_per_further_image": 1e6
        * (found[many, False]["mb"] - found[few, False]["mb"])
        / (many - few),
        "read_ms_per_image": ours["ms"],
        "same_features": ours["total"] == peer["total"],
        "real_iad_gb_on_disk": {
            name: REAL_IAD * bytes_per_image(shape) / 1e9 for name, shape in grids.items()
        },
    }
    return {
        "figures": {
            "cache_memory_mb": {
                "ours": ours["mb"],
                "peer": peer["mb"],
                "peer_name": f"all features of {many} images in memory",
                "ratio": peer["mb"] / ours["mb"],
                "unit": "MB resident",
            }
        },
        "checks": checks,
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description="Memory of the feature cache.")
    parser.add_argument("--quick", action="store_true", help="100 and 1,000 images")
    parser.add_argument("--work", type=Path, help="folder on the disk to use  [default: temporary]")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--read", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.read:
        folder, count, hold = given.read
        print(json.dumps(read(Path(folder), int(count), hold == "1")))
        return
    found = measure((100, 1000) if given.quick else (1000, 10_000), given.work)
    show(found)
    if given.out is not None:
        write_json(given.out, result(found, device="cpu", seed=0))


if __name__ == "__main__":
    main()
