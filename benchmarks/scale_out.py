"""What sharing work costs, and what a second worker brings.

    python benchmarks/scale_out.py [--quick] [--out FILE.json] [--folder DIR]

``task_cost``: worker time per task beyond the task itself, of tasks of 50 ms on two workers of this
machine, handed out by ``run_tasks``; the peer is plain Dask (``client.submit`` and ``gather``) on
the same workers. They take turns, and the fastest of each counts. Tasks of no length say how many
the driver can hand out.

``tune``, ``evaluate`` and ``train`` (two categories with two seeds): runs an hour with two workers
of one thread, from the moment that both are ready; the peer is one worker of one thread. Whole
commands, the start of Python and of the workers included, are in the checks. A small LafitE on
rendered images; the machine should be quiet and have two cores.

Then what the driver does with each block: looking after one that a worker wrote, and reading it.
"""

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from harness import result, show
from pseudoval.data.files import sha256_file, write_json, write_npz
from pseudoval.tasks import Written, run_tasks
from sleeping import Sleep, sleep

WORKERS = 2
TASKS, SECONDS = 200, 0.05
TURNS = 3
COMMANDS = ("tune", "evaluate", "train")
MOST_MS = 10.0
"""Milliseconds that a task may cost beside its work."""
LEAST = 1.7
"""How many times the speed of one worker two should have."""
IMAGES = {"train": 96, "test_good": 24, "defects_per_kind": 6}
"""Of each category: with these a command takes about half a minute on one core."""
EPOCHS = 6


def main() -> None:
    """Measure, print a table, and write the result if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer tasks and images")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--folder", type=Path, help="an empty folder, which is kept")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        print(json.dumps(one(given.one[0], int(given.one[1]), given.folder, quick=given.quick)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        figures, checks = measure_tasks(20 if given.quick else TASKS)
        prepare(folder, quick=given.quick)
        for command in COMMANDS:
            figures[command], checks[command] = measure_command(command, folder, quick=given.quick)
        checks["driver"] = {f"grid {side}": measure_blocks(folder, side) for side in (14, 32)}
    checks["task_cost_below_10_ms"] = figures["task_cost"]["ours"] <= MOST_MS
    checks["two_workers_at_least_1.7"] = all(figures[name]["ratio"] >= LEAST for name in COMMANDS)
    found = {"figures": figures, "checks": checks}
    show(found)
    if given.out is not None:
        write_json(given.out, result(found, device="cpu", seed=0))


def measure_tasks(tasks: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Cost of a task in milliseconds of its worker, and of the driver for one of no length."""
    from distributed import default_client

    from pseudoval.tasks.cluster import local_workers

    def shared(seconds: float) -> int:
        kept: list[int] = []
        run_tasks(
            (Sleep(number, seconds) for number in range(tasks)), executor,
            lambda task, answer: kept.append(answer),
        )  # fmt: skip
        return len(kept)

    def plain(seconds: float) -> int:
        client = default_client()
        return len(
            client.gather([client.submit(sleep, n, seconds, pure=False) for n in range(tasks)])
        )

    with local_workers(WORKERS, "cpu") as executor:
        taken: dict[str, float] = {}
        for seconds in (SECONDS, 0.0):
            for turn in range(TURNS + 1):
                for name, way in (("ours", shared), ("plain", plain)):
                    spent = timed(lambda way=way, seconds=seconds: way(seconds), tasks)
                    if turn:  # the first one warms up
                        key = f"{name} {seconds:g}"
                        taken[key] = min(taken.get(key, spent), spent)
    ours, peer = (
        1000 * (WORKERS * taken[f"{name} {SECONDS:g}"] / tasks - SECONDS)
        for name in ("ours", "plain")
    )
    figure = {"ours": ours, "peer": peer, "peer_name": "plain Dask", "ratio": ours / peer,
              "unit": "ms a task"}  # fmt: skip
    checks = {
        "tasks": tasks,
        "driver_ms_a_task": 1000 * taken["ours 0"] / tasks,
        "driver_ms_a_task_plain_dask": 1000 * taken["plain 0"] / tasks,
    }
    return {"task_cost": figure}, checks


def timed(run: Callable[[], int], tasks: int) -> float:
    """Seconds until all tasks are done."""
    began = time.perf_counter()
    assert run() == tasks
    return time.perf_counter() - began


def prepare(folder: Path, *, quick: bool) -> None:
    """Make ``data``, ``pseudo``, ``model`` and the RUN ``tuned``."""
    from pseudoval.cli.commands import run
    from pseudoval.demo import render_dataset

    data = folder / "data"
    data.mkdir(parents=True)
    images = {name: max(2, count // 12) for name, count in IMAGES.items()} if quick else IMAGES
    render_dataset(data, seed=0, size=128, categories=["fabric", "flange"], **images)
    build = ["build", str(data), "--out", str(folder / "pseudo"), "--per-normal", "1"]
    assert run(build) == 0
    assert run(arguments("train", folder, folder / "model", epochs=2)) == 0
    few = ["--t", "25", "--k", "1"] if quick else []
    assert run([*arguments("tune", folder, folder / "tuned"), *few]) == 0


def arguments(command: str, folder: Path, out: Path, epochs: int = EPOCHS) -> list[str]:
    """A command that writes into ``out``."""
    pseudo = ["--pseudo", str(folder / "pseudo"), "--out", str(out)]
    return {
        "train": ["train", str(folder / "data"), *pseudo, "--preset", "demo", "--device", "cpu",
                  "--epochs", str(epochs)],
        "tune": ["tune", "--model", str(folder / "model"), *pseudo],
        "evaluate": ["evaluate", str(out), str(folder / "data")],
    }[command]  # fmt: skip


def measure_command(
    command: str, folder: Path, *, quick: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Runs an hour of a command with two workers and with one."""
    whole: dict[int, float] = {}
    ready: dict[int, float] = {}
    for workers in (1, WORKERS):
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, __file__, "--one", command, str(workers), "--folder", str(folder),
             *(["--quick"] if quick else [])],
            check=True, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        whole[workers] = time.perf_counter() - began
        ready[workers] = json.loads(done.stdout.splitlines()[-1])
    speed = {workers: 3600 / seconds for workers, seconds in ready.items()}
    figure = {"ours": speed[WORKERS], "peer": speed[1], "peer_name": "one worker",
              "ratio": speed[WORKERS] / speed[1], "unit": "runs an hour"}  # fmt: skip
    return figure, {
        "seconds": ready,
        "seconds_of_the_whole_command": whole,
        "ratio_of_the_whole_command": whole[1] / whole[WORKERS],
    }


def one(command: str, workers: int, folder: Path, *, quick: bool) -> float:
    """Seconds of a command from the moment that so many workers are ready."""
    from pseudoval.cli import commands
    from pseudoval.tasks import cluster

    out = folder / f"{command}-{workers}"
    if command == "evaluate":
        shutil.copytree(folder / "tuned", out)
    extra = {
        "train": ["--per-category", "--seeds", "2", "--no-cache"],
        "tune": ["--no-cache", *(["--t", "25,300", "--k", "1"] if quick else [])],
        "evaluate": ["--no-cache"],
    }[command]
    clock: list[float] = []
    honest = cluster.local_workers

    @contextmanager
    def clocked(count: int, device: str) -> Iterator[Executor]:
        """Workers that have imported what they will need, as the driver has."""
        with honest(count, device) as executor:
            importing = (Sleep(n, 0.2, "pseudoval.detectors.lafite") for n in range(4 * count))
            run_tasks(importing, executor, lambda task, answer: None)
            for module in ("studies", "pseudoval.models.train", "pseudoval.detectors.lafite"):
                importlib.import_module(module)
            clock.append(time.perf_counter())
            yield executor
            clock.append(time.perf_counter())

    given = [*arguments(command, folder, out, epochs=2 if quick else EPOCHS), *extra]
    with mock.patch.object(cluster, "local_workers", clocked):
        assert commands.run([*given, "--workers", str(workers)]) == 0
    return clock[1] - clock[0]


def measure_blocks(folder: Path, side: int) -> dict[str, float]:
    """Milliseconds of the driver for a block of 16 images and 500 configurations."""
    path = folder / "block.npz"
    rng = np.random.default_rng(0)
    write_npz(
        path,
        {"scores": rng.random((500, 16)),
         "coarse": rng.random((500, 16, side, side), dtype=np.float32)},
        compress=False,
    )  # fmt: skip
    written = Written(path=path, sha256=sha256_file(path))

    def read(name: str) -> None:
        with np.load(path, allow_pickle=False) as archive:
            archive[name]

    ways: dict[str, Callable[[], object]] = {
        "checking": written.require,
        "reading scores": lambda: read("scores"),
        "reading maps": lambda: read("coarse"),
    }
    found = {"MB": path.stat().st_size / 1e6}
    for name, way in ways.items():
        taken = []
        for _ in range(5):
            began = time.perf_counter()
            way()
            taken.append(time.perf_counter() - began)
        found[f"{name}, ms"] = 1000 * min(taken)
    return found


if __name__ == "__main__":
    main()
