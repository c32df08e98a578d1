"""Fitting the models that one command asks for: one, or one per seed, per category, or both."""

import platform
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from lafite_core.config import LafiteConfig
from pseudoval import __version__
from pseudoval.data.files import MARKER, claimed, clear_folder, sha256_json
from pseudoval.detectors import TrainRequest, detector_class
from pseudoval.detectors.base import MODEL, read_model_json
from pseudoval.errors import UserError
from pseudoval.models.loss_picture import write_loss_picture
from pseudoval.models.members import Members, check_layout, listed
from pseudoval.progress import labelled, silent

LOSS_PICTURE = "loss.png"


def fit_all(request: TrainRequest) -> str:
    """Train every model of a request, in the layout that docs/design.md describes.

    Under ``torchrun`` the processes train each model together; the first one does all the rest.

    Returns:
        The model's hash; of several models one over theirs.

    Raises:
        UserError: ``out`` holds something else; see the sentence.
    """
    from lafite_core.distributed import join, leave

    group, device = join(request.device)
    progress = request.progress if group.leads else silent
    try:
        return _fit(replace(request, device=device, group=group, progress=progress))
    finally:
        leave()


def _make_room(request: TrainRequest) -> None:
    """Throw away what may go; refuse what may not."""
    if request.resume:
        return
    if not request.overwrite and any(child.name != MARKER for child in request.out.iterdir()):
        raise UserError(
            f"{request.out} already holds a model or an unfinished training; go on with --resume, "
            "start anew with --overwrite, or choose another --out."
        )
    request.backbone()  # what is wrong with it shows before anything is thrown away
    clear_folder(request.out)


def _fit(request: TrainRequest) -> str:
    """Train one model, or one for each seed or category of the request."""
    leads, out = request.group.leads, request.out
    members, parts = _parts(request)
    with claimed(out, "model") if leads else nullcontext():
        if leads:
            _make_room(request)
            check_layout(out, members)
        if members is None:
            return _fit_one(request)
        hashes: dict[str, str] = {}
        with listed(out, members) if leads else nullcontext():
            for name, part in zip(members.names, parts, strict=True):
                report = labelled(request.progress, name)
                hashes[name] = _fit(replace(part, out=out / name, progress=report))
        return sha256_json(hashes)


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


def _fit_one(request: TrainRequest) -> str:
    """One model, unless it is finished already."""
    info: dict[str, Any] = {
        "detector": request.detector,
        "categories": list(request.images),
        "split_sha256": request.split_sha256,
        "package_version": __version__,
        "python": platform.python_version(),
        "preset": request.preset,
        "train_images": {name: len(request.images[name]) for name in sorted(request.images)},
    }
    if request.refit is not None:
        hashes = [sha256 for _, sha256 in request.files()]
        info["refit"] = {**request.refit, "images_sha256": sha256_json(hashes)}
    request.group.wait()  # the first process has made the folder ready
    finished = (request.out / MODEL).exists()
    request.group.wait()
    if finished:
        require_same(read_model_json(request.out), request, info)
    else:
        detector_class(request.detector).train(request, info)
    about = read_model_json(request.out)
    losses, picture = about["info"].get("losses"), request.out / LOSS_PICTURE
    if losses and request.group.leads and not picture.exists():
        write_loss_picture(picture, losses, request.config.train.drop_after)
    return str(about["model_sha256"])


def require_same(about: Mapping[str, Any], request: TrainRequest, info: Mapping[str, Any]) -> None:
    """Check that a finished model is the one that was asked for.

    Args:
        about: its ``model.json``.
        info: what would be written there as ``info``.

    Raises:
        UserError: naming what differs.
    """
    found = about["info"]
    config = about["config"] and LafiteConfig.from_json(about["config"])
    wanted = {
        "detector": (found["detector"], info["detector"]),
        "configuration": (config, request.config),
        "seed": (about["seed"], request.seeds[0]),
        "split": (found["split_sha256"], info["split_sha256"]),
        "set of categories": (sorted(found["categories"]), sorted(info["categories"])),
        "choice or images": (found.get("refit"), info.get("refit")),
    }
    for name, (there, requested) in wanted.items():
        if there != requested:
            raise UserError(
                f"{request.out} holds a finished model with another {name}; choose another --out, "
                "or pass --overwrite instead of --resume."
            )
