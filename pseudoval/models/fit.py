"""Fitting the models that one command asks for: one, or one per seed, per category, or both."""

import os
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import replace

from pseudoval.data.files import ALWAYS_THERE, claimed, clear_folder
from pseudoval.data.locks import locked
from pseudoval.detectors import TrainRequest
from pseudoval.errors import UserError
from pseudoval.models.fit_tasks import fit_on_workers
from pseudoval.models.members import Members, check_layout, listed, recorded_sha256
from pseudoval.models.one_model import fit_one
from pseudoval.models.settings import find_device
from pseudoval.progress import labelled, silent
from pseudoval.tasks import Workers


def fit_all(request: TrainRequest, executor: Executor | None = None) -> str:
    """Train every model of a request, in the layout that docs/design.md describes.

    Under ``torchrun`` the processes train each model together; the first one does all the rest.

    Args:
        executor: who trains, each model as a task; None is this process.

    Returns:
        The model's hash; of several models one over theirs.

    Raises:
        UserError: ``out`` holds something else; see the sentence.
    """
    from lafite_core.distributed import ALONE, join, leave

    if executor is not None:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UserError(
                "torchrun trains one model with several processes, --workers and --cluster several "
                "models with one each; use one of them."
            )
        return _fit(replace(request, group=ALONE), Workers(executor=executor))
    group, device = join(find_device(request.device))
    progress = request.progress if group.leads else silent
    fitted = _fit(replace(request, device=device, group=group, progress=progress), Workers())
    leave()
    return fitted


def _fit(request: TrainRequest, workers: Workers) -> str:
    with ExitStack() as stack:
        if request.group.leads:
            stack.enter_context(claimed(request.out, "model"))
            stack.enter_context(locked(request.out, "train"))
        models = _prepared(request, stack)
        if workers.executor is None:
            for one in models:
                fit_one(one)
        else:
            fit_on_workers(request, models, workers)
    return recorded_sha256(request.out)


def _prepared(request: TrainRequest, stack: ExitStack) -> list[TrainRequest]:
    """The requests for the single models, in folders that are ready for them.

    Args:
        stack: what is put in there tidies up if nothing comes of it.
    """
    leads, out = request.group.leads, request.out
    members, parts = _parts(request)
    if leads:
        stack.enter_context(claimed(out, "model"))
        _make_room(request)
        check_layout(out, members)
    if members is None:
        return [request]
    if leads:
        stack.enter_context(listed(out, members))
    found = []
    for name, part in zip(members.names, parts, strict=True):
        report = labelled(request.progress, name)
        found += _prepared(replace(part, out=out / name, progress=report), stack)
    return found


def _make_room(request: TrainRequest) -> None:
    """Throw away what may go; refuse what may not."""
    if request.resume:
        return
    there = {child.name for child in request.out.iterdir()} - {*ALWAYS_THERE}
    if there and not request.overwrite:
        raise UserError(
            f"{request.out} already holds a model or an unfinished training; go on with --resume, "
            "start anew with --overwrite, or choose another --out."
        )
    request.backbone()  # what is wrong with it shows before anything is thrown away
    clear_folder(request.out)


def _parts(request: TrainRequest) -> tuple[Members | None, list[TrainRequest]]:
    """The members of a request's MODEL and their requests; None and nothing for one model."""
    if len(request.seeds) > 1:
        members = Members(kind="seeds", names=[f"seed-{seed}" for seed in request.seeds])
        return members, [replace(request, seeds=[seed]) for seed in request.seeds]
    if request.per_category:
        members = Members(kind="per_category", names=list(request.images))
        return members, [
            replace(request, images={category: files}, per_category=False)
            for category, files in request.images.items()
        ]
    return None, []
