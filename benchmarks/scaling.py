"""What a study pays at scale, on paper: counted operations and bytes, and measured speeds.

    python benchmarks/scaling.py [--out FILE.json]

Prints the tables of ``docs/scaling.md``. Operations of the network are counted, bytes follow from
the formats in ``docs/design.md``, what travels is pickled and counted, and seconds are those
divided by a speed: one in ``benchmarks/results``, or an assumed one, named below. Nothing is run at
this scale.
"""

import argparse
import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from lafite_core.config import LafiteConfig, preset
from pseudoval.data.dataset import ImageItem
from pseudoval.data.files import write_json
from pseudoval.models.source import Judges, ModelSource
from pseudoval.scoring.blocks import BLOCK_IMAGES, ScoreBlock
from pseudoval.scoring.pixels import TASK_BYTES, PixelFigures
from pseudoval.statistics.bootstrap import REPLICATES
from pseudoval.tasks import SharedFolder, Written
from throughput import scoring_flops, training_flops

RESULTS = Path(__file__).parent / "results"
CATEGORIES, IMAGES, CONFIGS = 30, 150_000, 500
NORMALS = 150_000  # trained on: the other three quarters of 200,000
CHANNELS = 272
GPU = 300e12  # FLOP/s assumed of one GPU in bfloat16
PRODUCT = 30e12  # FLOP/s assumed of one GPU in float32 products, for the core set
IMAGE_BYTES = 1e6  # assumed of an image file
SHA256 = 1e9  # bytes/s of a core, assumed
TASK = 0.010  # seconds of the driver, the most that benchmarks/scale_out.py lets a task cost
FOLDER = Path("/shared/projects/anomalies/pseudo")  # paths are as long as these
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
    print("\n| the driver alone | |\n| --- | --- |")
    for name, told in measured.items():
        print(f"| {name} | {told} |")
    if arguments.out is not None:
        write_json(arguments.out, {**found, "the driver alone": measured})


def at_grid(side: int) -> dict[str, str]:
    """Operations and bytes of the paper's model on a grid of that side."""
    config = preset("paper")
    config = dataclasses.replace(config, features=dataclasses.replace(config.features, grid=side))
    return {**operations(config), **traffic(config), **wire(side)}


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
        "a block on a GPU": duration(whole / IMAGES * BLOCK_IMAGES / GPU),
        "neighbour search": f"{search / 1e18:.3f} EFLOP",
        "training, an epoch": f"{train / 1e18:.3f} EFLOP, {duration(train / 8 / GPU)}",
        "core set, one model for all": f"{coreset / 1e15:.0f} PFLOP, {duration(coreset / PRODUCT)}",
        "core set, a model per category": f"{coreset / CATEGORIES / 1e15:.1f} PFLOP, "
        f"{duration(coreset / CATEGORIES / PRODUCT)}",
    }


def traffic(config: LafiteConfig) -> dict[str, str]:
    """Bytes that are kept, and that go to and from a GPU."""
    cells = config.features.grid**2
    block = BLOCK_IMAGES * CONFIGS * (4 * cells + 8)  # a float32 map and a float64 score
    blocks = -(-IMAGES // BLOCK_IMAGES)
    moved = 4 * cells * IMAGES * (2 * CHANNELS + CONFIGS)  # features and noise; error maps back
    features = 4 * CHANNELS * cells * NORMALS
    checked = block / SHA256
    return {
        "blocks": f"{blocks:,} of {block / 1e6:.1f} MB",
        "blocks in all": f"{blocks * block / 1e9:.0f} GB",
        "checking them, the driver alone": duration(blocks * checked),
        "blocks a second that it keeps up with": f"{1 / (TASK + checked):.0f}",
        "scores alone": f"{8 * IMAGES * CONFIGS / 1e6:.0f} MB",
        "maps of a category": f"{4 * cells * IMAGES * CONFIGS / CATEGORIES / 1e9:.1f} GB",
        "to and from a GPU, of 8": f"{moved / 8 / 1e9:.0f} GB",
        "training features": f"{features / 1e9:.0f} GB",
        "memory bank": f"{config.edit.keep_rate * features / 1e9:.1f} GB",
    }


def wire(side: int) -> dict[str, str]:
    """Bytes of the tasks and answers that go over the wire, pickled as an executor does."""
    blocks = -(-IMAGES // BLOCK_IMAGES)
    maps = 4 * side**2 * IMAGES // CATEGORIES
    step = max(1, TASK_BYTES // maps)
    measured = -(-CONFIGS // step) * CATEGORIES
    sizes = {name: len(pickle.dumps(one)) for name, one in travelling(side).items()}
    return {
        "the task of a block": f"{sizes['block'] / 1e3:.0f} kB, {mega(blocks * sizes['block'])}",
        "its answer, the disk shared": f"{sizes['written']} B, {mega(blocks * sizes['written'])}",
        "tasks of pixel figures": f"{measured:,} of {step} configurations",
        "one of them": f"{sizes['pixels'] / 1e6:.1f} MB, {mega(measured * sizes['pixels'])}",
    }


def travelling(side: int) -> dict[str, Any]:
    """A task of each kind and an answer, with paths of a usual length."""
    place = SharedFolder(folder=FOLDER / "run" / "blocks", token="node-017-12345-0123abcd")
    source = ModelSource(
        folder=FOLDER / "model", seed=0, device="auto", cache=True, settings=(),
        model_sha256="0" * 64,
    )  # fmt: skip
    sha256 = [f"{number:064x}" for number in range(IMAGES // CATEGORIES)]  # pickled once if equal
    configs = [{"t": t, "k": k} for t in range(25) for k in range(CONFIGS // 25)]
    block = ScoreBlock(
        judges=Judges({"category": source}),
        images=[("category", FOLDER / "images" / "category" / f"{number:06d}.png", sha256[number])
                for number in range(BLOCK_IMAGES)],
        configs=configs, key="0" * 64, path=FOLDER / "run" / "blocks" / "stage" / "block-0.npz",
        place=place,
    )  # fmt: skip
    items = [
        ImageItem(
            id=f"category/{number:06d}.png",
            path=FOLDER / "images" / "category" / f"{number:06d}.png",
            category="category", label=1, group=f"category/{number:06d}",
            mask_path=FOLDER / "masks" / "category" / f"{number:06d}.png", defect="nsa",
        )
        for number in range(IMAGES // CATEGORIES)
    ]  # fmt: skip
    step = max(1, TASK_BYTES // (4 * side**2 * len(items)))
    pixels = PixelFigures(
        judges=block.judges, category="category", items=items, configs=configs[:step],
        maps=np.zeros((step, len(items), side, side), np.float32), key="0" * 64, path=block.path,
    )  # fmt: skip
    written = Written(path=block.path, sha256="0" * 64)
    return {"block": block, "written": written, "pixels": pixels}


def speeds() -> dict[str, str]:
    """Seconds of what the driver does alone, from measured speeds."""
    blocks = -(-IMAGES // BLOCK_IMAGES)
    boot = read("bootstrap")
    work = boot["checks"]
    rate = work["configurations"] * work["images"] * work["replicates"]
    rate /= boot["figures"]["bootstrap"]["ours"]
    quality = read("lafite_quality_cpu")["report"]
    curve = quality["detectors"]["knn"]["stages"][0]["values"]
    each = quality["seconds"]["knn/tune"] / (quality["images"]["pseudo"] * len(curve))
    overhead = read("study_overhead")["checks"]
    written = overhead["storage_write_seconds"] / overhead["storage_trials"]
    size = overhead["storage_bytes"] / overhead["storage_trials"]
    told = {
        "hashing the images": duration(IMAGES * IMAGE_BYTES / SHA256),
        "handing out the blocks, at most": duration(blocks * TASK),
        "bootstrap of a stage": duration(REPLICATES * CONFIGS * IMAGES / rate),
        "its replicates in memory": f"{8 * CATEGORIES * CONFIGS * REPLICATES / 1e6:.0f} MB",
        "trials in the storage": f"{duration(written * CONFIGS)}, {size * CONFIGS / 1e3:.0f} kB",
        "pixel figures, at most, on two cores": f"{each:.3f} s an image and configuration, "
        f"{duration(each * IMAGES * CONFIGS)}",
    }
    if (RESULTS / "scale_out.json").exists():
        checks = read("scale_out")["checks"]
        told["handing out the blocks, measured"] = (
            f"{checks['driver_ms_a_task']:.2g} ms a task, "
            f"{duration(blocks * checks['driver_ms_a_task'] / 1e3)}"
        )
        for grid, driver in checks["driver"].items():
            for name, taken in driver.items():
                if name.endswith(", ms"):
                    told[f"{name.removesuffix(', ms')} of blocks, {grid}"] = (
                        f"{taken:.2g} ms, {duration(blocks * taken / 1e3)}"
                    )
    return told


def read(name: str) -> Any:
    """A committed result."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def mega(size: float) -> str:
    """Bytes for a person."""
    return f"{size / 1e9:.0f} GB in all" if size > 2e9 else f"{size / 1e6:.0f} MB in all"


def duration(seconds: float) -> str:
    """Seconds for a person, to two digits."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds:.2g} s"


if __name__ == "__main__":
    main()
