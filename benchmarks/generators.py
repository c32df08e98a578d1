"""How fast anomalies are made, against anomalib's Perlin augmenter, and in how much memory.

    python benchmarks/generators.py [--quick] [--out FILE.json] [--data DATA]

Speed: the default generator with its defaults and anomalib's ``PerlinAnomalyGenerator`` take turns
on the same decoded images of 256 px in memory, with one thread each; every image is brought to the
form that each needs (ours bytes, theirs floats in 0..1) within the time. The peer runs with
``probability=1``, since by default it leaves half of the images as they are, which is no anomaly;
its speed with all defaults is among the checks, and so are those of our other generators.
Workers: images per second that ``build`` writes, from the first to the last, with 1 and 2. Memory:
resident set after 200 and after 1,000 anomalies of 1024 px, written by one process.

Images are rendered, or those of ``DATA/CATEGORY/train/good``.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from harness import result, show
from pseudoval.data.dataset import list_categories, train_normals
from pseudoval.data.files import sha256_file, write_json
from pseudoval.data.images import pixel_sha256, read_rgb
from pseudoval.demo import render_dataset
from pseudoval.generators import DEFAULT_GENERATOR, GENERATORS, MixConfig, parse_settings
from pseudoval.pseudo_set.build import build
from pseudoval.pseudo_set.foreground import make_foreground
from pseudoval.pseudo_set.make import AnomalyMaker
from pseudoval.pseudo_set.plan import Normal, Task, plan_category

SEED = 0
Make = Callable[[int], Any]
"""Makes the anomaly of that number."""


def main() -> None:
    """Run all parts, print a table, and write the result if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, or less")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--data", type=Path, help="images in the MVTec layout instead of rendered")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = arguments.data or rendered(folder / "data", 256, 6 if arguments.quick else 24)
        figure, speed = measure_speed(load(data), quick=arguments.quick)
        workers = measure_workers(data, folder, quick=arguments.quick)
        memory = measure_memory(folder, quick=arguments.quick)
    found = {
        "figures": {"generator_images_per_s": figure},
        "checks": {**speed, **workers, **memory},
    }
    show(found)
    for label, value in speed["images_per_s"].items():
        print(f"{label:<40}{value:>10.4g} images/s")
    if arguments.out is not None:
        write_json(arguments.out, result(found, device="cpu", seed=SEED))


def rendered(folder: Path, side: int, count: int) -> Path:
    """A data root of the demo's categories."""
    folder.mkdir()
    render_dataset(folder, seed=SEED, size=side, train=count, test_good=1, defects_per_kind=1)
    return folder


def load(data: Path) -> list[list[np.ndarray]]:
    """Up to 24 decoded normals of each category, 256 px on a side."""
    return [
        [cv2.resize(read_rgb(path), (256, 256)) for path in train_normals(data, category)[:24]]
        for category in list_categories(data)
    ]


def measure_speed(
    pictures: Sequence[Sequence[np.ndarray]], *, quick: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Images per second of the default generator and the peer, taking turns; and of all others."""
    rounds, ours, theirs = (3, 20, 4) if quick else (30, 120, 10)
    makers: dict[str, tuple[Make, int]] = {
        DEFAULT_GENERATOR: (generator(DEFAULT_GENERATOR, pictures), ours),
        "anomalib perlin": (anomalib_perlin(pictures, probability=1.0), theirs),
        "anomalib perlin, half unchanged": (anomalib_perlin(pictures, probability=0.5), theirs),
    }
    for name, known in GENERATORS.items():
        if name != DEFAULT_GENERATOR and known.generate is not None:
            makers[name] = (generator(name, pictures), ours // 4)
    seconds = take_turns(makers, rounds)
    speeds = {name: 1 / statistics.median(seconds[name]) for name in makers}
    mine, peer = speeds[DEFAULT_GENERATOR], speeds["anomalib perlin"]
    figure = {
        "ours": mine,
        "peer": peer,
        "peer_name": "anomalib PerlinAnomalyGenerator",
        "ratio": mine / peer,
        "unit": "images/s, one thread, 256 px",
    }
    quarter = statistics.quantiles(
        [b / a for a, b in zip(seconds[DEFAULT_GENERATOR], seconds["anomalib perlin"], strict=True)]
    )
    return figure, {"images_per_s": speeds, "ratio_quartiles": [quarter[0], quarter[2]]}


def take_turns(makers: dict[str, tuple[Make, int]], rounds: int) -> dict[str, list[float]]:
    """Seconds per image of each maker in each round; the first, warming up, is left out."""
    seconds: dict[str, list[float]] = {name: [] for name in makers}
    for turn in range(rounds + 1):
        for name, (make, count) in makers.items():
            started = time.perf_counter()
            for number in range(count):
                make(turn * count + number)
            if turn:
                seconds[name].append((time.perf_counter() - started) / count)
    return seconds


def generator(name: str, pictures: Sequence[Sequence[np.ndarray]]) -> Make:
    """Anomalies by one of our generators with its defaults, categories in turn."""
    config, generate = parse_settings(name, {}), GENERATORS[name].generate
    assert generate is not None

    def make(number: int) -> Any:
        category = pictures[number % len(pictures)]
        background, source = (category[(number + i) % len(category)] for i in (0, 1))
        return generate(background, source, config, np.random.default_rng([SEED, number]))

    return make


def anomalib_perlin(pictures: Sequence[Sequence[np.ndarray]], *, probability: float) -> Make:
    """Anomalies by anomalib, otherwise with its defaults, on the same images."""
    import torch
    from anomalib.data.utils.generators.perlin import PerlinAnomalyGenerator

    torch.set_num_threads(1)
    torch.manual_seed(SEED)  # it draws from the global state
    augment = PerlinAnomalyGenerator(probability=probability)

    def make(number: int) -> Any:
        category = pictures[number % len(pictures)]
        image = torch.from_numpy(category[number % len(category)])
        return augment(image.permute(2, 0, 1).float() / 255)

    return make


def measure_workers(data: Path, folder: Path, *, quick: bool) -> dict[str, Any]:
    """Images per second that ``build`` writes with 1 and with 2 workers, starting not counted."""
    speeds: dict[str, float] = {}
    for workers in (1, 2):
        ticks: list[float] = []

        def tick(stage: str, done: int, total: int, ticks: list[float] = ticks) -> None:
            if stage == "writing":
                ticks.append(time.perf_counter())

        build(
            data,
            folder / f"workers-{workers}",
            per_normal=4 if quick else 60,
            holdout=0.5,
            workers=workers,
            progress=tick,
        )
        # Results come in order, in chunks: the first few are waiting already.
        first = len(ticks) // 4
        speeds[str(workers)] = (len(ticks) - 1 - first) / (ticks[-1] - ticks[first])
    return {
        "written_images_per_s_by_workers": speeds,
        "two_workers_over_one": speeds["2"] / speeds["1"],
    }


def measure_memory(folder: Path, *, quick: bool) -> dict[str, Any]:
    """Megabytes resident after few and after five times as many anomalies of 1024 px."""
    few, side = (10, 256) if quick else (200, 1024)
    data = rendered(folder / "large", side, 4)
    category = list_categories(data)[0]
    normals = [
        Normal(
            name=path.relative_to(data).as_posix(),
            file_sha256=sha256_file(path),
            pixel_sha256=pixel_sha256(read_rgb(path)),
        )
        for path in train_normals(data, category)
    ]
    config = parse_settings(DEFAULT_GENERATOR, {})
    mixture = MixConfig(weights={DEFAULT_GENERATOR: 1.0}, configs={DEFAULT_GENERATOR: config})
    _, tasks = plan_category(
        category,
        normals,
        mixture=mixture,
        per_normal=-(-5 * few // len(normals)),
        seed=SEED,
    )
    maker = AnomalyMaker(
        data=data,
        out=folder / "out",
        configs=mixture.configs,
        foregrounds={category: make_foreground("none", category, [])},
    )
    resident: dict[str, float] = {}
    for number, task in enumerate(tasks[: 5 * few], 1):
        assert isinstance(task, Task)
        maker(task)
        (folder / "out" / task.image).unlink()  # a thousand would fill a small disk
        if number in (few, 5 * few):
            resident[str(number)] = resident_mb()
    return {"resident_mb_after_anomalies": resident, "resident_mb_at_side_px": side}


def resident_mb() -> float:
    """Resident set of this process in MB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
