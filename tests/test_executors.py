"""Training, tuning and evaluating, whoever does the work: the same files, byte for byte."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from distributed import Client
from helpers import road_commands, with_options

from pseudoval.cli.commands import run
from pseudoval.models.train import train
from pseudoval.scoring import evaluate_run
from studies import run_study

MODELS = [f"seed-{seed}/{name}" for seed in (3, 4) for name in ("fabric", "flange")]
SAME = {
    "model": [f"{one}/{name}" for one in MODELS
              for name in ("unet.safetensors", "bank.safetensors", "losses.csv")],
    "run": ["best.json", "figures.json", "optuna.journal",
            *(f"seed-{seed}/{name}_scores.npz" for seed in (3, 4) for name in ("pseudo", "test"))],
}  # fmt: skip
QUIET = {**os.environ, "OMP_NUM_THREADS": "1"}


def until(true: Callable[[], bool], *processes: subprocess.Popen[str]) -> None:
    """Wait for something that processes do."""
    end = time.monotonic() + 300
    while not true():
        for process in processes:
            assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.02)


def blocks(folder: Path) -> list[Path]:
    """Those that are kept below a folder, while others write and remove files there."""
    try:
        return list(folder.rglob("block-*.npz"))
    except FileNotFoundError:
        return []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def descendants(pid: int) -> list[int]:
    """Ids of the processes that a process has started, and of theirs."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            found += [child, *descendants(child)]
    return found


def heeds_interrupts() -> None:
    """Undo what a shell does to commands in its background, whose children ignore Ctrl-C too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def by_hand(folder: Path, workers: int) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A scheduler file and its scheduler, with workers, as a user starts them."""
    file = folder / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    scheduler = [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0"]
    worker = [*dask, "worker", "--nthreads", "1", "--local-directory", str(folder)]
    common = ["--no-dashboard", "--scheduler-file", str(file)]
    commands = [[*scheduler, *common], *[[*worker, *common]] * workers]
    started = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True,
                         env=QUIET)
        for command in commands
    ]  # fmt: skip
    try:
        until(file.exists, started[0])
        with Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(workers, timeout=120)
        yield str(file), started[0]
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(60)


def check(root: Path, several: Path) -> None:
    """Models and scores are those that one process made, and nothing is left over."""
    for folder, names in SAME.items():
        for name in names:
            made, wanted = ((of / folder / name).read_bytes() for of in (root, several))
            if name == "optuna.journal":
                made, wanted = (len(text.splitlines()) for text in (made, wanted))
            assert made == wanted, f"{folder}/{name}"
    shas = [json.loads((of / "model" / one / "model.json").read_text())["model_sha256"]
            for one in MODELS for of in (root, several)]  # fmt: skip
    assert shas[::2] == shas[1::2]
    left = {path.name for path in root.rglob(".*")} - {".pseudoval.json"}
    assert not left, "no lock, token or temporary file is left"
    assert not list(root.rglob("blocks"))


def test_on_a_cluster_that_was_started_by_hand(
    several: Path, road: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One for both, since it takes memory and time as long as it is there."""
    with by_hand(tmp_path_factory.mktemp("cluster"), workers=2) as (file, _):
        by_commands(file, several, road, tmp_path_factory.mktemp("commands"))
        by_the_executor_of_a_client(file, several, road, tmp_path_factory.mktemp("client"))


def by_commands(cluster: str, several: Path, road: Path, tmp_path: Path) -> None:
    given = ["--cluster", cluster]
    data, away = tmp_path / "data", tmp_path / "away"
    data.symlink_to(road / "data")
    _, training, tune, _, _ = road_commands(road)
    model, out = tmp_path / "model", str(tmp_path / "run")
    training[1] = str(data)
    extra = ("--seed", "3", "--seeds", "2", "--per-category", *given)
    assert run(with_options(training, *extra, out=model)) == 0
    data.rename(away)  # tune reads nothing of it
    assert run([*with_options(tune, model=model, out=out), *given]) == 0
    assert run(["evaluate", out, str(away), *given]) == 0
    check(tmp_path, several)


def by_the_executor_of_a_client(cluster: str, several: Path, road: Path, tmp_path: Path) -> None:
    with Client(scheduler_file=cluster) as client:
        run_study(
            "t_then_k", model=several / "model", pseudo=road / "pseudo", out=tmp_path / "run",
            t=[900, 25, 300], k=[1, 4], executor=client.get_executor(),
        )  # fmt: skip
    same_choice(tmp_path, several)


def same_choice(root: Path, several: Path) -> None:
    for name in ("best.json", "seed-3/pseudo_scores.npz", "seed-4/pseudo_scores.npz"):
        assert (root / "run" / name).read_bytes() == (several / "run" / name).read_bytes()


def test_tuning_with_workers_of_this_machine(several: Path, road: Path, tmp_path: Path) -> None:
    tune = with_options(road_commands(road)[2], model=several / "model", out=tmp_path / "run")
    assert run([*tune, "--workers", "2"]) == 0
    same_choice(tmp_path, several)


def test_python_calls_on_a_process_pool(several: Path, road: Path, tmp_path: Path) -> None:
    about = json.loads((several / "model" / MODELS[0] / "model.json").read_text())
    _, training, tune, _, _ = road_commands(road)
    settings = dict(
        training[place + 1].split("=", 1) for place, word in enumerate(training) if word == "--set"
    )
    grids = {name: [int(v) for v in tune[tune.index(f"--{name}") + 1].split(",")] for name in "tk"}
    pseudo = road / "pseudo"
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        executor: Executor = pool
        train(
            road / "data", pseudo, tmp_path / "model", preset=about["info"]["preset"],
            epochs=about["config"]["train"]["epochs"], settings=settings, seed=3, seeds=2,
            per_category=True, device="cpu", executor=executor,
        )  # fmt: skip
        run_study(
            "t_then_k", model=tmp_path / "model", pseudo=pseudo, out=tmp_path / "run",
            executor=executor, **grids,
        )  # fmt: skip
        evaluate_run(tmp_path / "run", road / "data", executor=executor)
    check(tmp_path, several)


@pytest.mark.parametrize(
    ("number", "count"), [(signal.SIGINT, 2), (signal.SIGTERM, 1), (signal.SIGKILL, 1)]
)
def test_no_process_is_left_behind(
    number: signal.Signals, count: int, several: Path, road: Path, tmp_path: Path
) -> None:
    tune = with_options(road_commands(road)[2], model=several / "model", out=tmp_path / "run")
    process = subprocess.Popen(
        [sys.executable, "-m", "pseudoval", *tune, "--repeats", "5", "--workers", str(count)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        preexec_fn=heeds_interrupts,
    )  # fmt: skip
    until(lambda: bool(blocks(tmp_path)), process)
    workers = descendants(process.pid)
    assert len(workers) >= count
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    said, _ = process.communicate(timeout=120)
    if number != signal.SIGKILL:
        assert process.returncode == 130, said
        assert "the same command goes on with it" in said
        assert "Traceback" not in said
        assert {path.name for path in tmp_path.rglob(".*")} == {".pseudoval.json"}
    end = time.monotonic() + 60
    while any(map(alive, workers)):
        assert time.monotonic() < end, "a worker is left behind"
        time.sleep(0.05)


def test_a_scheduler_that_dies_costs_what_was_in_flight(
    several: Path, road: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    tune = with_options(road_commands(road)[2], model=several / "model", out=out)
    with by_hand(tmp_path, workers=1) as (file, scheduler):
        command = [sys.executable, "-m", "pseudoval", *tune, "--repeats", "5", "--cluster", file]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=QUIET
        )
        until(lambda: bool(blocks(out)), process)
        scheduler.kill()
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 2, said
    assert "workers or their scheduler are gone" in said
    assert "Traceback" not in said
    kept = {path: path.read_bytes() for path in out.rglob("block-*.npz")}
    assert kept
    times = {path: path.stat().st_mtime_ns for path in kept}
    assert run([*tune, "--repeats", "5", "--cluster", file]) == 2, "it is not there any more"
    assert {path: path.stat().st_mtime_ns for path in out.rglob("block-*.npz")} == times
