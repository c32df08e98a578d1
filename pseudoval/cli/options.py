"""Options that commands share or have many of, and how those are read that are not plain."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from pseudoval.data.files import claimed

PATH = click.Path(path_type=Path)
Command = Callable[..., Any]

Decorator = Callable[[Command], Command]


def together(*options: Decorator) -> Decorator:
    """Several options as one decorator; the help shows them in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


device_option = click.option(
    "--device", metavar="auto|cpu|cuda[:N]", default="auto", show_default=True,
    help="Where to compute; cuda:1 is the second GPU, auto a GPU where there is one.",
)  # fmt: skip
overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace what an earlier command left in the output folder."
)


def seed_option(what: str) -> Decorator:
    """``--seed N`` with what it seeds."""
    return click.option(
        "--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help=what
    )


def cache_option(command: Command) -> Command:
    """``--cache DIR`` and ``--no-cache``: one value, a folder, True (the MODEL's) or False."""

    @wraps(command)
    def with_cache(*arguments: Any, cache_folder: Path | None, no_cache: bool, **rest: Any) -> Any:
        if cache_folder is not None and no_cache:
            raise click.UsageError("give --cache or --no-cache, not both")
        if cache_folder is None:
            return command(*arguments, cache=not no_cache, **rest)
        with claimed(cache_folder, "cache"):
            return command(*arguments, cache=cache_folder, **rest)

    return together(
        click.option("--cache", "cache_folder", type=PATH, metavar="DIR", help="Keep features "
                     "of images in this folder, which models may share.  [default: MODEL/cache]"),
        click.option("--no-cache", is_flag=True, help="Keep no features on disk."),
    )(with_cache)  # fmt: skip


class _Count(click.ParamType):
    """A number of workers from 1 on, or ``auto``."""

    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "auto" or isinstance(value, int):
            return value
        return click.IntRange(1).convert(value, param, ctx)


def executor_options(command: Command) -> Command:
    """``--workers`` and ``--cluster``: an executor while the command runs, or None."""

    @wraps(command)
    def with_executor(
        *arguments: Any, workers: int | str | None, cluster: str | None, **rest: Any
    ) -> Any:
        if workers is not None and cluster is not None:
            raise click.UsageError("give --workers or --cluster, not both")
        if workers is None and cluster is None:
            return command(*arguments, executor=None, **rest)
        if ":" in rest["device"]:
            raise click.UsageError(
                f"--device {rest['device']} is for one process; for workers name the GPUs in "
                "CUDA_VISIBLE_DEVICES"
            )
        from pseudoval.tasks.cluster import cluster_at, local_workers  # takes a second

        count = workers if isinstance(workers, int) else None
        with cluster_at(cluster) if cluster else local_workers(count, rest["device"]) as executor:
            return command(*arguments, executor=executor, **rest)

    return together(
        click.option("--workers", type=_Count(), metavar="N|auto", help="Share the work between "
                     "this many processes of this machine; auto is one for each visible GPU, "
                     "without one for each core.  [default: this process alone]"),
        click.option("--cluster", metavar="ADDRESS|FILE", help="Share it between the workers of a "
                     "Dask cluster: the address of its scheduler, or its scheduler file."),
    )(with_executor)  # fmt: skip


def assignments(context: click.Context, option: click.Parameter, texts: tuple[str, ...]) -> Any:
    """``name=value`` pairs as a mapping."""
    found = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not (name and sign):
            raise click.BadParameter(f"{text!r} is not of the form name=value")
        found[name] = value
    return found


def set_option(what: str) -> Decorator:
    """``--set NAME=VALUE``, which may be repeated, with what can be set."""
    return click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="NAME=VALUE",
        callback=assignments,
        help=f"{what}; may be repeated.",
    )


def refit_options(context: click.Context, options: dict[str, Any]) -> dict[str, Any]:
    """The options that ``--refit`` leaves open; seeds that were not given are the RUN's.

    Raises:
        click.UsageError: one was given that RUN decides.
    """
    free = ("device", "seed", "seeds", "resume", "overwrite", "cache", "executor")
    given = {
        name
        for name in context.params
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    read_otherwise = {"cache_folder", "no_cache", "workers", "cluster"}
    decided = sorted(given - {*free, *read_otherwise, "data", "out", "refit"})
    if decided:
        name = {"settings": "set"}.get(decided[0], decided[0]).replace("_", "-")
        raise click.UsageError(f"--refit takes --{name} from RUN; leave it out")
    return {
        name: None if name.startswith("seed") and name not in given else options[name]
        for name in free
    }


tune_options = together(
    click.option("--study", metavar="NAME|FILE.toml", help="See 'pseudoval studies'.  [default: "
                 "that of MODEL's detector]"),
    click.option("--model", type=PATH, default=Path("model"), show_default=True),
    click.option("--pseudo", type=PATH, multiple=True, default=[Path("pseudo")],
                 show_default=True, help="May be repeated: sets on one split, chosen on their "
                 "mean."),
    click.option("--out", type=PATH, default=Path("run"), show_default=True),
    click.option("--t", metavar="LIST|RANGE",
                 help="Values of t: a list such as 25,50,100, every 25th with 25..900:25, or "
                 "with --trials a range, 25..900."),
    click.option("--k", metavar="LIST|RANGE", help="The same of K."),
    click.option("--grid", "grids", multiple=True, callback=assignments,
                 metavar="NAME=LIST|RANGE", help="The same of any parameter of the detector; names "
                 "with commas in them are parted by semicolons. May be repeated."),
    click.option("--trials", type=click.IntRange(1), metavar="N",
                 help="Try so many configurations in each stage that a sampler searches."),
    click.option("--sampler", metavar="NAME", help="What searches the stages: grid, or a sampler "
                 "of Optuna's, such as tpe, random, qmc or gp.  [default: the study's; tpe for "
                 "ranges with --trials]"),
    click.option("--objective", metavar="NAME[+NAME]", help="What is maximised; 'pseudoval "
                 "studies' lists the names. A+B is the mean of two.  [default: "
                 "macro_image_auroc]"),
    click.option("--rule", metavar="NAME", help="Which configuration wins; 'pseudoval studies' "
                 "lists the rules.  [default: best]"),
    device_option,
    click.option("--audit-joint", "audit_share", type=float, metavar="SHARE",
                 help="After the stages, score this share of the cells off their path, in "
                 "(0, 1]; the choice stays as it is."),
    seed_option("Seed of the noise, the same for every configuration."),
    click.option("--repeats", type=click.IntRange(1), default=1, show_default=True,
                 help="Score with the noise of this many seeds, from --seed on, and choose on "
                 "the mean."),
    set_option("An option of scoring (diffusion.sampling_steps, .evaluations, "
               ".eta, score.NAME) instead of the model's"),
    click.option("--storage", metavar="URL", help="Database that keeps the study, such as "
                 "postgresql://USER@HOST/DATABASE.  [default: a journal in RUN]"),
    click.option("--study-name", metavar="NAME", help="Of the study in the storage.  [default: "
                 "the study's; with --storage RUN/STUDY]"),
    executor_options,
    click.option("--retry-failed", is_flag=True, help="Run points again that failed, also in "
                 "a finished RUN."),
    click.option("--resume/--overwrite", "resume", default=True,
                 help="Go on with the study in RUN, or start anew.  [default: resume]"),
    cache_option,
)  # fmt: skip


audit_options = together(
    click.option("--out", type=PATH, default=Path("audit"), show_default=True),
    click.option("--data", type=PATH, help="The DATA that the set was built from: for the "
                 "sources, near-duplicates, and a bank of normals."),
    click.option("--model", type=PATH, help="A model trained with this set, whose backbone "
                 "and bank say how hard it is."),
    click.option("--backbone", help="Without --model: of a bank built from DATA.  [default: "
                 "filterbank]"),
    click.option("--weights", type=PATH, help="safetensors file of that backbone."),
    device_option,
)  # fmt: skip


class BuildCommand(click.Command):
    """``build``, whose help lists the generators."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One line for each of ``generators.GENERATORS``, imported where it is asked for."""
        from pseudoval.generators import GENERATORS

        with formatter.section("Generators"):
            formatter.write_dl([(name, known.summary) for name, known in GENERATORS.items()])


build_options = together(
    click.option("--out", type=PATH, default=Path("pseudo"), show_default=True),
    click.option("--categories", metavar="A,B", help="Only these categories."),
    click.option("--generator", metavar="NAME", default="cutpaste-scar", show_default=True),
    click.option("--holdout", type=float, default=0.25, show_default=True,
                 help="Share held out."),
    click.option("--split-seed", type=click.IntRange(0), default=0, show_default=True),
    click.option("--per-normal", type=click.IntRange(1), default=2, show_default=True,
                 help="Anomalies made of each held-out normal."),
    click.option("--foreground", default="none", show_default=True, metavar="auto|none|DIR",
                 help="Where anomalies lie: on the object found, anywhere, or on a folder's "
                 "masks."),
    seed_option("Seed of the anomalies; the split has its own."),
    click.option("--workers", type=click.IntRange(1), default=1, show_default=True),
)  # fmt: skip
