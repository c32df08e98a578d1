"""Which pseudo sets lead to the better choices: every generator and rule, judged on real defects.

    python benchmarks/selection_quality.py [--quick] [--out FILE.json] [--work WORK]
        [--data DATA] [--weights FILE | --model MODEL] [--generators A,B] [--images N]
        [--anomalib-python PYTHON] [--minutes M] [--summary] [--markdown FILE.md]

On the categories of DATA (default ``$PSEUDOVAL_SHARED/data/real``), with one split and one LafitE
model of all categories: LafitE's t without editing, then K at the t that the set chose; and
nearest neighbours' K, and which feature stages they compare, with several seeds of the core set and
of the pseudo set. Choices are made category by category, on a set of each generator and on Perlin
anomalies as anomalib makes them, by each rule of ``tune --rule``, and every value is then
scored on the real test images. Held-out normals are the same for all sets and scored once.

Everything is kept in WORK: a kill loses at most a block of images, ``--minutes`` stops in time
with exit code 3, and the same command goes on. ``--summary`` reports what is there. ``--quick``
renders its own small images. A generator whose code changed is measured anew in the same WORK.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import OutOfTime, StopWatch, result, show
from lafite_core.errors import LafiteError
from pseudoval.data.files import write_json, write_text
from pseudoval.demo import render_dataset
from pseudoval.errors import UserError
from pseudoval.progress import ProgressCallback
from pseudoval.statistics.rules import BEST, RULES
from selection_scoring import SEED, Job, measure
from selection_sets import ANOMALIB, Source, generators, this_python
from selection_summary import summary
from selection_tables import as_markdown, as_text, choices, images, table

QUICK_SETTINGS = {
    "features.image_size": "64", "features.grid": "8", "unet.base_channels": "16",
    "unet.multipliers": "1,2", "unet.attention_levels": "1", "diffusion.sampling_steps": "1",
    "score.pool": "8",
}  # fmt: skip


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, checked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few rendered images, a tiny model")
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    parser.add_argument("--work", type=Path, default=Path("build/selection_quality"))
    parser.add_argument("--data", type=Path, help="[default: $PSEUDOVAL_SHARED/data/real]")
    parser.add_argument("--weights", type=Path, help="of the backbone, to train LafitE with")
    parser.add_argument("--model", type=Path, help="a LafitE MODEL on the same split")
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.OPTION=VALUE")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--generators", help=f"A,B,... [default: all, and {ANOMALIB}]")
    parser.add_argument("--detectors", default="knn,lafite", metavar="knn,lafite")
    parser.add_argument("--images", type=int, default=60, help="of either class, a category")
    parser.add_argument("--knn-seeds", type=int, default=3)
    parser.add_argument("--anomalib-python", default=this_python())
    parser.add_argument("--minutes", type=float, help="stop in time; the same command goes on")
    parser.add_argument("--rule", default=BEST, choices=list(RULES), help="that figures are of")
    parser.add_argument("--summary", action="store_true", help="report what is there")
    parser.add_argument("--markdown", type=Path, help="write the table as Markdown")
    return parser.parse_args(arguments)


def job_of(options: argparse.Namespace, progress: ProgressCallback) -> Job:
    """The job that the options ask for.

    Raises:
        UserError: there is no data, or an unknown generator.
    """
    work: Path = options.work
    settings = dict(pair.split("=", 1) for pair in options.set)
    data, preset, epochs = options.data, options.preset, options.epochs
    images, seeds = options.images, options.knn_seeds
    if options.quick:
        images, seeds = min(images, 8), 1
        if options.model is None:
            preset, settings, epochs = "demo", {**QUICK_SETTINGS, **settings}, epochs or 10
        if data is None:
            data = work / "data"
            if not data.exists():
                data.mkdir(parents=True)
                render_dataset(data, seed=0, size=64, train=16, test_good=8, defects_per_kind=3,
                               categories=["fabric", "flange"])  # fmt: skip
    if data is None:
        shared = os.environ.get("PSEUDOVAL_SHARED")
        if shared is None:
            raise UserError("There are no images: give --data DATA, or set PSEUDOVAL_SHARED.")
        data = Path(shared) / "data" / "real"
    known = [generators()[0], ANOMALIB, *generators()[1:]]
    wanted = options.generators.split(",") if options.generators else known
    for name in wanted:
        if name not in known:
            raise UserError(f"There is no generator {name!r}; there are {', '.join(known)}.")
    return Job(
        source=Source(
            data=data,
            work=work,
            images=images,
            anomalib_python=options.anomalib_python,
            progress=progress,
        ),
        model=options.model,
        weights=options.weights,
        preset=preset,
        settings=settings,
        epochs=epochs,
        generators=[name for name in known if name in wanted],
        detectors=options.detectors.split(","),
        knn_seeds=seeds,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    work: Path = options.work
    try:
        watch = StopWatch(work / "seconds.json", options.minutes, images={})
        if not options.summary:
            measure(job_of(options, watch), watch)
        found = summary(work, options.rule, watch.seconds)
    except OutOfTime as stop:
        print(f"{stop}; the same command goes on.", file=sys.stderr)
        return 3
    except (UserError, LafiteError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    checks = found["checks"]
    tables = [
        table(checks["generators"]),
        choices(checks["cases"], options.rule),
        images(checks["resolution"]),
    ]
    for cells in tables:
        print(as_text(cells) + "\n")
    show(found)
    if options.markdown is not None:
        write_text(options.markdown, "\n".join(map(as_markdown, tables)))
    if options.out is not None:
        write_json(options.out, result(found, device="cpu", seed=SEED))
    return 0


if __name__ == "__main__":
    sys.exit(main())
