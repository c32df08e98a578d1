"""The commands; each imports what it needs when it runs, so that the help comes at once."""

import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from pseudoval import __version__
from pseudoval.cli.options import (
    PATH,
    BuildCommand,
    audit_options,
    build_options,
    cache_option,
    device_option,
    executor_options,
    overwrite_option,
    refit_options,
    seed_option,
    set_option,
    tune_options,
)
from pseudoval.cli.output import audit_lines, build_lines, choice_lines
from pseudoval.detectors import all_detectors
from pseudoval.errors import UserError
from pseudoval.progress import Progress


def say(sentence: str) -> None:
    """Tell the user something beside the progress."""
    click.echo(sentence, err=True)


def shown() -> dict[str, Any]:
    """What a long command shows while it works."""
    return {"progress": Progress(), "notice": say}


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="pseudoval")
def cli() -> None:
    """Choose hyperparameters of unsupervised anomaly detectors with normal images only.

    DATA is a folder in the MVTec layout: CATEGORY/train/good, CATEGORY/test/{good,DEFECT},
    CATEGORY/ground_truth/DEFECT.

    \b
    pseudoval build DATA       -> pseudo   held-out normals and synthetic anomalies
    pseudoval train DATA       -> model    a detector on the other normals
    pseudoval tune             -> run      t, then K, chosen on the pseudo set alone
    pseudoval evaluate run DATA            the same configurations on the real test set
    pseudoval report run       -> run/report
    pseudoval predict model IMAGES --run run  -> predictions
    """


@cli.command()
@click.option("--out", type=PATH, default=Path("demo"), show_default=True)
@seed_option("Seed of everything in the demo.")
def demo(out: Path, seed: int) -> None:
    """The whole road on rendered images: no network, no GPU, no download."""
    from pseudoval.demo.commands import demo_commands, render_data

    render_data(out, seed)
    for arguments in demo_commands(out, seed):
        click.echo(f"\n$ pseudoval {' '.join(arguments)}")
        cli.main(arguments, prog_name="pseudoval", standalone_mode=False)
    click.echo(f"\nThe report is {out / 'run' / 'report' / 'report.html'}")


@cli.command(cls=BuildCommand)
@click.argument("data", type=PATH)
@build_options
@set_option("Any single option by name")
@overwrite_option
def build(data: Path, out: Path, categories: str | None, **options: Any) -> None:
    """Hold out normals of DATA and make a pseudo-validation set of them."""
    from pseudoval.pseudo_set.build import build as build_set

    wanted = categories.split(",") if categories else None
    manifest = build_set(data, out, categories=wanted, progress=Progress(), **options)
    for line in build_lines(manifest, out):
        click.echo(line)


@cli.command()
@click.argument("data", type=PATH)
@click.option("--pseudo", type=PATH, default=Path("pseudo"), show_default=True)
@click.option("--out", type=PATH, help="[default: model; with --refit: refit]")
@click.option("--detector", metavar="NAME|MODULE:CLASS", default="lafite", show_default=True,
              help="See 'pseudoval studies'; or a class of your own.")  # fmt: skip
@click.option("--preset", type=click.Choice(["cpu", "paper", "demo"]), default="cpu",
              show_default=True)  # fmt: skip
@click.option("--backbone", help="A timm model name, or filterbank.  [default: the preset's]")
@click.option("--weights", type=PATH, help="safetensors file of the backbone; without it "
              "timm downloads the pretrained weights.")  # fmt: skip
@click.option("--epochs", type=click.IntRange(1), help="Exactly this many epochs.")
@click.option("--keep-epochs", metavar="LIST", help="Keep the network of these epochs too, such as "
              "20,40,60, so that tune can choose the epoch.")  # fmt: skip
@set_option("Any single option by name")
@click.option("--per-category", is_flag=True, help="A model for each category.")
@click.option("--refit", type=PATH, metavar="RUN", help="Train RUN's model on all normals of "
              "DATA, held-out ones too.")  # fmt: skip
@device_option
@cache_option
@seed_option("Seed of the core set, the initial weights and the training.")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True,
              help="Train this many models, with the seeds from --seed on.")  # fmt: skip
@executor_options
@click.option("--resume", is_flag=True, help="Go on with an interrupted training.")
@overwrite_option
@click.pass_context
def train(
    context: click.Context, data: Path, pseudo: Path, out: Path | None, refit: Path | None,
    **options: Any,
) -> None:  # fmt: skip
    """Train a detector on the normals of DATA that PSEUDO does not hold out."""
    from pseudoval.models.train import refit as refit_model
    from pseudoval.models.train import train as train_model

    out = out or Path("model" if refit is None else "refit")
    with interruptible(f"the training in {out}; the same command with --resume goes on with it"):
        if refit is None:
            sha256 = train_model(data, pseudo, out, **shown(), **options)
        else:
            kept = refit_options(context, options)
            sha256 = refit_model(data, refit, out, **shown(), **kept)
    if os.environ.get("RANK", "0") == "0":  # the first process, where there are several
        click.echo(f"{out}: model {sha256[:12]}")


@cli.command()
@tune_options
def tune(study: str | None, model: Path, out: Path, resume: bool, **options: Any) -> None:
    """Choose a configuration on the pseudo set alone; DATA is not needed."""
    from pseudoval.models.open import default_study
    from studies import run_study

    study = study or default_study(model)
    with interruptible(f"the study in {out}; the same command goes on with it"):
        outcome = run_study(study, model=model, out=out, overwrite=not resume, **shown(), **options)
    if not outcome.fresh:
        click.echo(f"{out} is finished: nothing to do.")
    for line in choice_lines(outcome.best, out):
        click.echo(line)


@cli.command()
@click.argument("arguments", nargs=-1, metavar="[RUN] DATA", type=PATH)
@click.option("--model", type=PATH, help="A refitted model, to score RUN's choice with it "
              "into RUN/refit.")  # fmt: skip
@device_option
@executor_options
@cache_option
def evaluate(arguments: tuple[Path, ...], model: Path | None, **options: Any) -> None:
    """Score every tuned configuration on the real test images of DATA.  [default RUN: run]"""
    from pseudoval.metrics.result_table import table_lines
    from pseudoval.scoring import evaluate_refit, evaluate_run

    if len(arguments) not in (1, 2):
        raise click.UsageError("give DATA, or RUN and DATA")
    run, data = arguments if len(arguments) == 2 else (Path("run"), *arguments)
    with interruptible(f"the scores in {run}; the same command goes on with them"):
        if model is None:
            content = evaluate_run(run, data, **shown(), **options)
        else:
            content = evaluate_refit(run, data, model, **shown(), **options)
    for line in table_lines(content):
        click.echo(line)


@cli.command()
@click.argument("runs", nargs=-1, metavar="[RUN ...]", type=PATH)
@click.option("--scores", type=PATH, help="CSV of pseudo scores, instead of a RUN.")
@click.option("--test-scores", type=PATH, help="CSV of test scores.")
@click.option("--out", type=PATH, help="[default: RUN/report, or report]")
def report(
    runs: tuple[Path, ...], scores: Path | None, test_scores: Path | None, out: Path | None
) -> None:
    """Curves, correlation, costs and a page, from RUNs or from CSV files.  [default RUN: run]

    Several RUNs stand side by side, with their rankings aggregated.
    """
    from reports import verdict, write_report
    from reports.findings.forms import read_correlation
    from reports.terminal import summary_lines

    if not runs and scores is None:
        runs = (Path("run"),)
    folder = write_report(runs, out, scores=scores, test_scores=test_scores)
    correlation = read_correlation(folder)
    click.echo(verdict(correlation))
    for line in summary_lines(correlation):
        click.echo(line)
    click.echo(f"{folder / 'report.html'}")


@cli.command()
@click.argument("model", type=PATH)
@click.argument("images", nargs=-1, required=True, metavar="IMAGES...", type=PATH)
@click.option("--run", type=PATH, help="Take the configuration that this RUN chose.  [default: "
              "that of the refit, else the detector's defaults]")  # fmt: skip
@click.option("--category", metavar="NAME", help="Category of the images, for a model per "
              "category.  [default: the folder of that name they are in]")  # fmt: skip
@click.option("--out", type=PATH, default=Path("predictions"), show_default=True)
@device_option
@cache_option
@overwrite_option
def predict(model: Path, images: tuple[Path, ...], out: Path, **options: Any) -> None:
    """Score new images with MODEL and draw heat maps over them.

    IMAGES are files, or folders that are searched for images.
    """
    from pseudoval.scoring.predict import predict as predict_images

    fresh = predict_images(model, images, out, **shown(), **options)
    click.echo(f"{out / 'scores.csv'}" if fresh else f"{out} is finished: nothing to do.")


@cli.command()
@click.argument("pseudo", type=PATH)
@audit_options
def audit(pseudo: Path, out: Path, **options: Any) -> None:
    """Inspect the pseudo set PSEUDO: sheets, distributions, difficulty, repeats.

    How hard a set is say nearest neighbours on MODEL's backbone and bank, else on a bank of the
    normals of DATA that were not held out.
    """
    from pseudoval.audit import audit as auditing
    from reports import write_audit_page

    content = auditing.audit(pseudo, out, progress=Progress(), **options)
    for line in audit_lines(content):
        click.echo(line)
    click.echo(f"{write_audit_page(out)}")


@cli.command(name="check-detector")
@click.argument("detector", metavar="MODULE:CLASS")
@click.argument("data", type=PATH)
@device_option
def check_detector(detector: str, data: Path, device: str) -> None:
    """Try a detector of your own on a few normals of DATA: does it keep its contract?"""
    from pseudoval.scoring.conformance import check_detector as checks_of

    checks = []
    for check in checks_of(detector, data, device=device):
        checks.append(check)
        click.echo(f"{'BREAKS' if check.breach else 'ok':<7}{check.name}: "
                   f"{check.breach or check.seen}")  # fmt: skip
    broken = [check.name for check in checks if check.breach]
    if broken:
        raise UserError(f"{detector} breaks its contract: {', '.join(broken)}.")


@cli.command(name="studies")
def list_studies() -> None:
    """List the studies, objectives, rules and samplers that tune knows, and the detectors."""
    from pseudoval.statistics.objectives import OBJECTIVES
    from pseudoval.statistics.rules import RULES
    from studies import STUDIES
    from studies.design import study_files
    from studies.design.sampler_names import sampler_names

    for name, make in STUDIES.items():
        click.echo(f"{name:<10} {(make.__doc__ or '').splitlines()[0]}")
    click.echo(f"\nFILE.toml: {(study_files.__doc__ or '').strip()}")
    tables = {
        "--objective NAME or NAME+NAME": {name: row.summary for name, row in OBJECTIVES.items()},
        "--rule NAME": {name: rule.summary for name, rule in RULES.items()},
        "train --detector NAME": {
            name: f"{row.summary}; its study is {row.study}"
            for name, row in all_detectors().items()
        },
    }
    for title, known in tables.items():
        click.echo(f"\n{title}")
        for name, meaning in known.items():
            click.echo(f"  {name:<18} {meaning}")
    click.echo(f"\n--sampler NAME\n  {', '.join(sampler_names())}")


@contextmanager
def interruptible(what: str) -> Iterator[None]:
    """Turn Ctrl-C or SIGTERM inside the block into a sentence on how to go on; exit code 130."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"Interrupted. Nothing finished is lost: {what}.") from None
    finally:
        signal.signal(signal.SIGTERM, before)


class Interrupted(Exception):
    """The user pressed Ctrl-C; the message says how to go on."""


def main() -> None:
    """Run the command line and leave with the documented exit codes."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; 0 done, 2 the user's input, 130 interrupted, 1 a bug."""
    from lafite_core.errors import LafiteError

    # A failed download ends in one sentence of ours; the retries before it are not worth reading.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        cli.main(arguments or ["--help"], prog_name="pseudoval", standalone_mode=False)
    except click.ClickException as error:
        message = error.format_message().rstrip(".")
        click.echo(f"Error: {message}; see 'pseudoval --help'.", err=True)
        return 2
    except (UserError, LafiteError) as error:
        click.echo(f"Error: {error}", err=True)
        return 2
    except Interrupted as error:
        click.echo(f"\n{error}", err=True)
        return 130
    except (KeyboardInterrupt, click.Abort):
        click.echo("\nInterrupted. The same command starts again.", err=True)
        return 130
    except Exception:
        traceback.print_exc()
        click.echo("This is a bug in pseudoval; please report it with the lines above.", err=True)
        return 1
    return 0
