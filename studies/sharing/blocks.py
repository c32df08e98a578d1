"""Blocks of images scored by several workers: each claims what is free, until all are there.

A result travels as the file of its block in RUN, where the workers share that folder; with a
storage of its own for the study, through the storage: the bytes of that file as attributes of a
trial, in pieces, because some databases limit the length of a text. Every machine then writes the
blocks of all into its own RUN. The ticket of a finished block names the trial and the hash of the
bytes; of two results for one block, from machines whose arithmetic differs in the last bit, the
one whose ticket is COMPLETE is taken by all.

Workers of one machine go through a study in step: each sees all blocks of a stage, one of them puts
the matrix together, and the others read it to make the same choice.
"""

import base64
import hashlib
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from pseudoval.data.dataset import ImageItem
from pseudoval.data.files import sha256_file, write_bytes
from pseudoval.detectors import Detector
from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import Config, ScoreMatrix
from pseudoval.progress import ProgressCallback
from pseudoval.scoring.blocks import BlockWork, matrix_header, plan_blocks, score_images
from studies.sharing.leases import TOLD, Claims
from studies.sharing.storage import WAITS

TICKETS, RESULTS = "#blocks", "#results"
"""What is added to a study's name for the tickets of its blocks, and for their results."""

PIECE = 60_000
"""Characters of a text that every database holds (MySQL: 65,535 bytes)."""

MATRIX = "matrix.npz"


class Results:
    """Bytes kept in a storage, one trial each."""

    def __init__(self, storage: BaseStorage, name: str) -> None:
        optuna.create_study(storage=storage, study_name=name, load_if_exists=True)
        self._storage = storage
        self._study = storage.get_study_id_from_name(name)

    def put(self, key: str, content: bytes) -> int:
        """Keep the bytes; the id of the trial that holds them, which appears whole or not at all.

        A worker that dies before it tells the id leaves a trial that nobody reads.
        """
        text = base64.b64encode(content).decode()
        pieces = [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
        attributes = {str(number): piece for number, piece in enumerate(pieces)}
        trial = optuna.trial.create_trial(
            value=float(len(content)),
            user_attrs={"work": key, "pieces": len(pieces), **attributes},
        )
        return self._storage.create_new_trial(self._study, trial)

    def get(self, trial_id: int) -> bytes:
        """The bytes of a trial.

        Raises:
            KeyError, ValueError: it is not there, or damaged.
        """
        attributes = self._storage.get_trial(trial_id).user_attrs
        pieces = [attributes[str(number)] for number in range(attributes["pieces"])]
        return base64.b64decode("".join(pieces), validate=True)


class Finished(Exception):
    """Another process has finished the study meanwhile and put its blocks away."""


@dataclass(kw_only=True)
class Team:
    """The workers that score a study together, as one of them sees it.

    Attributes:
        results: where results travel; None where all workers share the folder of RUN.
        helper: whether this process only helps another on its machine.
        tells: whether this process has helpers, that wait for its matrices.
        threads: what this process may use of the cores while the others score too.
        retries: how often points that failed were run again; a retry is work of its own.
        over: whether the study is finished.
    """

    claims: Claims
    results: Results | None
    helper: bool
    tells: bool
    threads: int
    retries: int
    over: Callable[[], bool]
    _lost: dict[str, float] = field(default_factory=dict)

    def share(self, works: Sequence[BlockWork], show: Callable[[int], None]) -> None:
        """Score blocks until every one is in RUN, scored by whomever.

        Args:
            show: is told how many blocks are there.

        Raises:
            Finished: blocks are gone because another process has finished the study.
            UserError: an image cannot be read, or a configuration cannot be scored.
        """
        missing = list(works)
        with _threads(self.threads):
            self._share(missing, show)

    def _share(self, missing: list[BlockWork], show: Callable[[int], None]) -> None:
        count = len(missing)
        while missing:
            owners = self.claims.owners()
            missing = [
                work for work in missing if not self._is_there(work, owners.get(self._key(work)))
            ]
            show(count - len(missing))
            free = [work for work in missing if self._key(work) not in owners]
            if free:
                # Every worker begins at another place, so that few want the same block.
                place = zlib.crc32(self.claims.worker.encode())
                self._score(free[place % len(free)])
            elif missing:
                time.sleep(WAITS)

    def _score(self, work: BlockWork) -> None:
        ticket = self.claims.take(self._key(work))
        if ticket is None:
            return
        began = time.monotonic()
        with self.claims.held(ticket):
            if work.stored() is None:
                work.keep(work.score())
            result = None
            if self.results is not None:
                content = _path(work).read_bytes()
                result = {
                    "trial": self.results.put(work.key, content),
                    "sha256": hashlib.sha256(content).hexdigest(),
                }
            self.claims.complete(ticket, result, time.monotonic() - began)

    def _key(self, work: BlockWork) -> str:
        return f"{work.key} retry {self.retries}" if self.retries else work.key

    def _is_there(self, work: BlockWork, owner: FrozenTrial | None) -> bool:
        """Whether the block is in RUN; with a storage for results, the one that counts."""
        path = _path(work)
        complete = owner is not None and owner.state == TrialState.COMPLETE
        if self.results is None:
            return work.is_kept() or (complete and self._is_lost(work))
        if owner is None or not complete:
            return False
        result = owner.user_attrs[TOLD]
        if path.exists() and sha256_file(path) == result["sha256"]:
            return True
        if self.over():
            raise Finished
        try:
            content = self.results.get(result["trial"])
        except (KeyError, ValueError):
            content = b""
        if hashlib.sha256(content).hexdigest() != result["sha256"]:
            return self._is_lost(work)
        write_bytes(path, content)
        return True

    def _is_lost(self, work: BlockWork) -> bool:
        """Whether a finished block does not appear, so that it is to be scored once more, here.

        On a network's file system another machine's file may take a while to be seen.
        """
        if self.over():
            raise Finished
        now = time.monotonic()
        return now - self._lost.setdefault(work.key, now) > self.claims.lease


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _path(work: BlockWork) -> Path:
    assert work.path is not None  # shared blocks always have a place
    return work.path


def score_together(
    team: Team,
    detector: Detector,
    items: Sequence[ImageItem],
    configs: Sequence[Config],
    *,
    name: str,
    store: Path,
    progress: ProgressCallback,
    **options: Any,
) -> Callable[[], ScoreMatrix]:
    """``score_images`` by a team; other options as there.

    Returns:
        What gives the matrix: at once, or to a helper when the process that it helps has it.
    """
    path = store / name / MATRIX

    def share(works: Sequence[BlockWork]) -> None:
        def show(blocks: int) -> None:
            done = sum(len(work.items) for work in works[:blocks])
            progress(f"scoring {name}", done, len(items))

        team.share(works, show)

    if team.helper:
        share(plan_blocks(detector, items, configs, name=name, store=store))
        header = matrix_header(detector, items)
        wanted = ([dict(config) for config in configs], [i.id for i in items], header)
        return lambda: _awaited(team, path, wanted)
    matrix = score_images(detector, items, configs, name=name, store=store, share=share, **options)
    if team.tells:
        matrix.save(path)
    return lambda: matrix


def _awaited(team: Team, path: Path, wanted: tuple[Any, ...]) -> ScoreMatrix:
    """The matrix that the process writes that this one helps.

    Raises:
        Finished: the study is finished and its blocks are put away.
    """
    while True:
        try:
            matrix = ScoreMatrix.load(path)
            if (matrix.configs, matrix.images, matrix.header) == wanted:
                return matrix
        except UserError:  # not yet, or not any more
            pass
        if team.over():
            raise Finished
        time.sleep(WAITS)
