"""What a study pays at scale, on paper: counted operations and bytes, and measured speeds.

    python benchmarks/scaling.py [--out FILE.json]

Prints the tables of ``docs/scaling.md``. Operations of the network are counted, bytes follow from
the formats in ``docs/design.md``, and seconds are those divided by a speed: one in
``benchmarks/results``, or an assumed one of a GPU, named below. Nothing is run at this scale.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from lafite_core.config import LafiteConfig, preset
from pseudoval.data.files import write_json
from pseudoval.scoring.blocks import BLOCK_IMAGES
from pseudoval.statistics.bootstrap import REPLICATES
from throughput import scoring_flops, training_flops

RESULTS = Path(__file__).parent / "results"
CATEGORIES, IMAGES, CONFIGS = 30, 150_000, 500
NORMALS = 150_000  # trained on: the other three quarters of 200,000
CHANNELS = 272
GPU = 300e12  # FLOP/s assumed of one GPU in bfloat16
PRODUCT = 30e12  # FLOP/s assumed of one GPU in float32 products, for the core set
GPUS = (8, 64)
GRIDS = (14, 32)


def main() -> None:
    """Print the tables, and write the numbers if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    arguments = parser.parse_args()
    found = {f"grid {side}": at_grid(side) for side in GRIDS}
    names = list(found[f"grid {GRIDS[0]}"])
    print(f"| | {' | '.join(found)} |\n| --- |{' --- |' * len(found)}")
    for name in names:
        print(f"| {name} | {' | '.join(found[grid][name] for grid in found)} |")
    measured = speeds()
    print("\n| one process, in the present form | |\n| --- | --- |")
    for name, told in measured.items():
        print(f"| {name} | {told} |")
    if arguments.out is not None:
        write_json(arguments.out, {**found, "one process": measured})


def at_grid(side: int) -> dict[str, str]:
    """Operations and bytes of the paper's model on a grid of that side."""
    config = preset("paper")
    config = dataclasses.replace(config, features=dataclasses.replace(config.features, grid=side))
    return {**operations(config), **traffic(config)}


def operations(config: LafiteConfig) -> dict[str, str]:
    """Floating-point operations, and seconds at the assumed speeds."""
    one = scoring_flops(config, CHANNELS)
    whole = one * config.diffusion.sampling_steps * IMAGES * CONFIGS
    train = training_flops(config, CHANNELS) * NORMALS
    patches = NORMALS * config.features.grid**2
    members = config.edit.keep_rate * patches
    search = 2 * CHANNELS * members * config.features.grid**2 * IMAGES
    coreset = 2 * CHANNELS * patches * members
    told = {
        "one pass of the network": f"{one / 1e9:.1f} GFLOP",
        f"study: {CONFIGS} configurations": f"{whole / 1e18:.1f} EFLOP",
    }
    for gpus in GPUS:
        told[f"study on {gpus} GPUs"] = duration(whole / gpus / GPU)
    return {
        **told,
        "neighbour search, shared by all configurations": f"{search / 1e18:.3f} EFLOP",
        "training, an epoch": f"{train / 1e18:.3f} EFLOP, {duration(train / 8 / GPU)} on 8 GPUs",
        "core set, one model for all": f"{coreset / 1e15:.0f} PFLOP, {duration(coreset / PRODUCT)}"
        " on one GPU",
        "core set, a model per category": f"{coreset / CATEGORIES / 1e15:.1f} PFLOP, "
        f"{duration(coreset / CATEGORIES / PRODUCT)} on one GPU",
    }


def traffic(config: LafiteConfig) -> dict[str, str]:
    """Bytes that are kept, and that go over a wire."""
    cells = config.features.grid**2
    row = 4 * cells + 8  # a float32 map and a float64 score
    block = BLOCK_IMAGES * CONFIGS * row
    blocks = -(-IMAGES // BLOCK_IMAGES)
    moved = 4 * cells * IMAGES * (2 * CHANNELS + CONFIGS)  # features and noise; error maps back
    features = 4 * CHANNELS * cells * NORMALS
    return {
        "blocks": f"{blocks:,} of {block / 1e6:.1f} MB",
        "blocks in all, before compression": f"{blocks * block / 1e9:.0f} GB",
        "maps in memory when a stage closes": f"{4 * cells * IMAGES * CONFIGS / 1e9:.0f} GB",
        "scores alone": f"{8 * IMAGES * CONFIGS / 1e6:.0f} MB",
        "to and from a GPU, of 8": f"{moved / 8 / 1e9:.0f} GB",
        "training features": f"{features / 1e9:.0f} GB",
        "memory bank": f"{config.edit.keep_rate * features / 1e9:.1f} GB",
    }


def speeds() -> dict[str, str]:
    """Seconds of what one process does alone, from measured speeds."""
    boot = read("bootstrap")
    work = boot["checks"]
    rate = work["configurations"] * work["images"] * work["replicates"]
    rate /= boot["figures"]["bootstrap"]["ours"]
    quality = read("lafite_quality_cpu")["report"]
    curve = quality["detectors"]["knn"]["stages"][0]["values"]
    each = quality["seconds"]["knn/tune"] / (quality["images"]["pseudo"] * len(curve))
    told = {
        "bootstrap of a stage": duration(REPLICATES * CONFIGS * IMAGES / rate),
        "its replicates in memory": f"{8 * CATEGORIES * CONFIGS * REPLICATES / 1e6:.0f} MB",
        "pixel figures, at most": f"{each:.3f} s an image and configuration, "
        f"{duration(each * IMAGES * CONFIGS)}",
    }
    if (RESULTS / "study_overhead.json").exists():
        checks = read("study_overhead")["checks"]
        written = checks["storage_write_seconds"] / checks["storage_trials"]
        size = checks["storage_bytes"] / checks["storage_trials"]
        told["trials in the storage"] = (
            f"{duration(written * CONFIGS)}, {size * CONFIGS / 1e3:.0f} kB"
        )
    return told


def read(name: str) -> Any:
    """A committed result."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def duration(seconds: float) -> str:
    """Seconds for a person, to two digits."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds:.2g} s"


if __name__ == "__main__":
    main()
