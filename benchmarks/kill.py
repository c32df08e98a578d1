"""Kill commands again and again, with kill -9 at random moments, and see what is lost.

    python benchmarks/kill.py [--quick] [--kills N] [--out FILE.json] [--folder DIR]

``train --per-category --seeds 2``, ``tune`` and ``evaluate`` run on rendered images with tiny
models, alone and with ``--workers 2``. They are killed at moments drawn from the whole length of a
command, the first instants included. Half of the kills of a command with workers hit a worker, and
the command must go on by itself; all others hit the command itself, which is given once more in the
same folder. A command that gets to its end is checked, and another begins, until the kills are used
up:

- the folder has the files of a command that nobody killed and no others, hidden ones included, the
  same to the byte; Optuna's storage has the same trials, each of them once,
- of the work that was begun (blocks, epochs, pixel figures), at most what was in flight at a kill
  was begun in vain: one piece for a worker, one for each worker when they lose their command,
- no process is left some seconds after the command was killed, and none at its end.

A command that works alone is forked from a process that has everything loaded, so that all of the
kills hit its work. One with workers is started anew each time. The figure is the number of kills
after which all this held, and for the peer the number of kills. It takes about an hour.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import psutil
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

import counted
from harness import result, show
from pseudoval.cli.commands import run
from pseudoval.data.files import write_json
from pseudoval.demo import render_dataset
from pseudoval.models.members import cache_folder

COMMANDS = ("train", "tune", "evaluate")
WORKERS = (0, 2)
"""Of a command; 0 is one that works alone."""
SMALL = ("features.image_size=64", "features.grid=8", "unet.base_channels=16",
         "unet.multipliers=1,2", "diffusion.sampling_steps=2", "score.pool=8",
         "train.checkpoint_seconds=0")  # fmt: skip
CLOCKS = ("optuna.journal", "trials.csv")
"""Files with times in them."""
PATIENCE = 3600.0
"""Seconds for a command that is not killed."""
GONE_AFTER = 120.0
"""Seconds in which workers end that have lost their command; one that starts, when it has."""


@dataclass(kw_only=True)
class Attacked:
    """A command that is killed on the way.

    Attributes:
        arguments: of the first call; ``again`` are those of the calls after a kill.
        log: file for what it prints; beside it lies the count of what it begins.
        kills: who was killed.
        allowed: pieces of work that may be lost by that.
        waited: seconds until the last process was gone, the longest.
    """

    arguments: Sequence[str]
    again: Sequence[str] = ()
    workers: int
    log: Path
    kills: Counter[str] = field(default_factory=Counter)
    allowed: int = 0
    waited: float = 0.0

    @property
    def count(self) -> Path:
        """See ``counted``."""
        return self.log.with_suffix(".count")

    def lost(self, whole: Path) -> Counter[str]:
        """What it has begun beyond that of a command that nobody kills, by its count."""
        begun, needed = counted.begun(self.count), counted.begun(whole)
        return Counter({work: begun[work] - needed[work] for work in begun})

    def to_the_end(self, kills: int, length: float, dice: random.Random) -> None:
        """Run it to its end, with up to so many kills on the way.

        Args:
            length: seconds of the command that nobody kills.

        Raises:
            RuntimeError: it fails, or does not end, or leaves a process.
        """
        process = self._start(self.arguments)
        while not self._ends(process, dice.uniform(0, length) if kills else PATIENCE):
            if not kills:
                raise RuntimeError(f"{self.arguments[0]} does not end, see {self.log}")
            kills -= 1
            workers = [one for one in processes(self.count) if "--multiprocessing-fork" in one[1]]
            if workers and dice.random() < 0.5:
                os.kill(dice.choice(workers)[0], signal.SIGKILL)
                self.kills["a worker"] += 1
                self.allowed += 1
                continue
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            self.kills["the command"] += 1
            self.allowed += max(1, self.workers)
            self._alone()
            process = self._start(self.again or self.arguments)
        self._alone()

    def _start(self, arguments: Sequence[str]) -> int:
        """The id of a new process."""
        with self.log.open("ab") as log:
            if self.workers:
                command = [sys.executable, counted.__file__, *arguments]
                marked = {**os.environ, counted.FILE: str(self.count)}
                return subprocess.Popen(command, stdout=log, stderr=log, env=marked).pid
            child = os.fork()
            if child:
                return child
            status = 1
            try:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
                os.environ[counted.FILE] = str(self.count)
                counted.install()
                status = run([*arguments])
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)

    def _ends(self, process: int, seconds: float) -> bool:
        """Whether it comes to its end in this time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            done, status = os.waitpid(process, os.WNOHANG)
            if done and status:
                code = os.waitstatus_to_exitcode(status)
                raise RuntimeError(f"{self.arguments[0]} ended with {code}, see {self.log}")
            if done:
                return True
            time.sleep(0.001)
        return False

    def _alone(self) -> None:
        """Wait until what the process has started is gone."""
        began = time.monotonic()
        while left := processes(self.count) if self.workers else []:
            if time.monotonic() > began + GONE_AFTER:
                raise RuntimeError(f"{self.arguments[0]} leaves {left}")
            time.sleep(0.05)
        self.waited = max(self.waited, time.monotonic() - began)


def processes(count: Path) -> list[tuple[int, list[str]]]:
    """Ids and command lines of the processes that note what they begin in a file."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(counted.FILE) == str(count):
                found.append((process.pid, process.cmdline()))
        except psutil.Error:  # of another user, or gone, or dead and not asked for yet
            continue
    return found


def arguments_of(command: str, folder: Path, out: Path, workers: int) -> list[str]:
    """A command that writes into ``out``."""
    given = {
        "train": [str(folder / "data"), "--pseudo", str(folder / "pseudo"), "--out", str(out),
                  "--preset", "demo", "--epochs", "6", "--per-category", "--seeds", "2",
                  *(part for setting in SMALL for part in ("--set", setting))],
        "tune": ["--model", str(folder / "train"), "--pseudo", str(folder / "pseudo"),
                 "--out", str(out), "--t", "25,100,300,900", "--k", "1,2,4"],
        "evaluate": [str(out), str(folder / "data")],
    }[command]  # fmt: skip
    if command != "train":  # a cache of its own, so that features are written each time
        given += ["--cache", str(out.with_name(f"{out.name}-cache"))]
    return [command, *given, *(["--workers", str(workers)] if workers else [])]


def prepare(folder: Path, commands: Iterable[str], dice: random.Random) -> dict[str, float]:
    """Make what nobody kills, in folders with the names of the commands; the seconds of each."""
    if not (folder / "data").exists():
        (folder / "data").mkdir(parents=True)
        render_dataset(folder / "data", seed=0, size=64, train=9, test_good=1, defects_per_kind=1,
                       categories=["fabric", "flange"])  # fmt: skip
    build = ["build", str(folder / "data"), "--out", str(folder / "pseudo"), "--per-normal", "3"]
    if not (folder / "pseudo").exists():
        build_it = Attacked(arguments=build, workers=0, log=folder / "build.log")
        build_it.to_the_end(0, 0, dice)
    seconds = {}
    for command in COMMANDS[: 1 + max(COMMANDS.index(name) for name in commands)]:
        out = folder / command
        if out.exists() and command not in commands:
            continue
        if command == "evaluate":
            shutil.copytree(folder / "tune", out)
        whole = Attacked(
            arguments=arguments_of(command, folder, out, 0), workers=0,
            log=folder / f"{command}.log",
        )  # fmt: skip
        began = time.monotonic()
        whole.to_the_end(0, 0, dice)
        seconds[command] = time.monotonic() - began
    return seconds


def different(whole: Path, out: Path) -> list[str]:
    """What a folder has that it should not, or lacks, or has otherwise."""
    there, here = ({path.relative_to(of) for path in of.rglob("*")} for of in (whole, out))
    wrong = [f"{name} is left" for name in here - there]
    wrong += [f"{name} is missing" for name in there - here]
    for name in there & here:
        if name.name in CLOCKS or (whole / name).is_dir():
            continue
        if (whole / name).read_bytes() != (out / name).read_bytes():
            wrong.append(f"{name} is another")
    if not wrong and (out / CLOCKS[0]).exists() and trials(whole) != trials(out):
        wrong.append("Optuna's storage has other trials")
    return wrong


def trials(folder: Path) -> dict[str, list[Any]]:
    """What Optuna's journal says of every study: parameters, value and state of each trial."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(folder / CLOCKS[0])))
    return {
        study.study_name: [
            (trial.params, trial.values, trial.state.name)
            for trial in optuna.load_study(study_name=study.study_name, storage=storage).trials
        ]
        for study in optuna.get_all_study_summaries(storage)
    }


def kill_often(
    folder: Path,
    kills: int,
    seed: int,
    commands: Sequence[str] = COMMANDS,
    workers: Sequence[int] = WORKERS,
) -> dict[str, Any]:
    """Kill commands in ``folder`` so many times; what was found, as a result file has it."""
    torch.set_num_threads(1)
    dice = random.Random(seed)
    seconds = prepare(folder, commands, dice)
    totals: Counter[str] = Counter()
    by_kind: dict[str, dict[str, Any]] = {}
    cases = [(command, number) for number in workers for command in commands]
    for place, (command, number) in enumerate(cases):
        name = f"{command}, {f'{number} workers' if number else 'alone'}"
        left = kills // len(cases) + (place < kills % len(cases))
        length = 0.0 if number else seconds[command]
        row = by_kind[name] = {"kills": Counter(), "commands": 0, "lost": Counter(), "wrong": []}
        while left or not length:
            one, wrong, took = attack(
                folder, command, number, left if length else 0, length, dice, totals["commands"]
            )
            here = sum(one.kills.values())
            if here == 0:  # the machine may have been busier when the length was taken
                length = min(length or took, took)
            left -= here
            totals.update(kills=here, survived=0 if wrong else here, commands=1)
            row["kills"] += one.kills
            row["lost"] += one.lost(folder / f"{command}.count")
            row["wrong"] += wrong
            row["commands"] += 1
            row["seconds until all processes are gone"] = round(
                max(one.waited, row.get("seconds until all processes are gone", 0)), 1
            )
            print(f"{name}: {dict(one.kills)}, {wrong or 'all well'}", flush=True)
            if wrong and not here:
                break
        row["needed"] = counted.begun(folder / f"{command}.count")
        row["seconds"] = round(length, 1)
    return summary(totals, by_kind)


def attack(
    folder: Path, command: str, workers: int, kills: int, length: float, dice: random.Random,
    number: int,
) -> tuple[Attacked, list[str], float]:  # fmt: skip
    """Kill one command until it is at its end: the command, what is wrong, its seconds."""
    out = folder / f"killed-{number}"
    if command == "evaluate":
        shutil.copytree(folder / "tune", out)
    arguments = arguments_of(command, folder, out, workers)
    one = Attacked(
        arguments=arguments, again=[*arguments, *["--resume"] * (command == "train")],
        workers=workers, log=out.with_suffix(".log"),
    )  # fmt: skip
    began = time.monotonic()
    try:
        one.to_the_end(kills, length, dice)
    except RuntimeError as error:
        for process, _ in processes(one.count):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        return one, [str(error)], 0.0
    took = time.monotonic() - began
    wrong = different(folder / command, out)
    if command != "train":
        cache = out.with_name(f"{out.name}-cache")
        cache_folder(out, cache)  # what the next command does: it tidies up after killed workers
        wrong += different(folder / f"{command}-cache", cache)
        shutil.rmtree(cache)
    wrong += [f"{path.name} is left" for path in folder.glob(".*")]
    lost = one.lost(folder / f"{command}.count")
    if min(lost.values()) < 0 or lost.total() > one.allowed:
        wrong.append(f"{dict(lost)} was begun in vain, {one.allowed} may be")
    if not wrong:
        shutil.rmtree(out)
    return one, wrong, took


def summary(totals: Counter[str], by_kind: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The content of the result file."""
    survived, done = totals["survived"], totals["kills"]
    figures = {
        "kills_survived": {
            "ours": survived, "peer": done, "peer_name": "kills", "ratio": survived / done,
            "unit": "kills",
        },
    }  # fmt: skip
    wrong = [problem for row in by_kind.values() for problem in row["wrong"]]
    checks: dict[str, Any] = {"all survived": not wrong and survived == done}
    for victim in ("the command", "a worker"):
        checks[f"kills of {victim}"] = sum(row["kills"][victim] for row in by_kind.values())
    checks["commands"] = totals["commands"]
    for work in counted.COUNTED:
        checks[f"{work} lost"] = sum(row["lost"][work] for row in by_kind.values())
    return {"figures": figures, "checks": {**checks, "by command": by_kind}}


def main() -> None:
    """Read the options and write the result."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--quick", action="store_true", help="10 kills instead of 100")
    options.add_argument("--kills", type=int)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path, default=Path("kill.json"))
    options.add_argument("--folder", type=Path, help="an empty folder, which is kept")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        found = kill_often(folder, given.kills or (10 if given.quick else 100), given.seed)
    write_json(given.out, result(found, device="cpu", seed=given.seed))
    show(found)
    sys.exit(0 if found["checks"]["all survived"] else 1)


if __name__ == "__main__":
    main()
