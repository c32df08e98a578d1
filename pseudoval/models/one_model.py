"""Fitting a single model, and what says that a finished one is the one that was asked for."""

import platform
from collections.abc import Mapping
from typing import Any

from lafite_core.config import LafiteConfig
from pseudoval import __version__
from pseudoval.data.files import sha256_json
from pseudoval.detectors import TrainRequest, detector_class
from pseudoval.detectors.base import MODEL, read_model_json
from pseudoval.errors import UserError
from pseudoval.models.loss_picture import write_loss_picture

LOSS_PICTURE = "loss.png"


def fit_one(request: TrainRequest) -> None:
    """Train one model, unless it is finished already."""
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
    if request.values:
        info["set"] = dict(request.values)
    group = request.group
    group.wait()  # the first process has made the folder ready
    finished = (request.out / MODEL).exists()
    group.wait()
    if finished:
        require_same(read_model_json(request.out), request, info)
    else:
        detector_class(request.detector).train(request, info)
    about = read_model_json(request.out)
    losses, picture = about["info"].get("losses"), request.out / LOSS_PICTURE
    if losses and group.leads and not picture.exists():
        write_loss_picture(picture, losses, request.config.train.drop_after)


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
        "--set": (found.get("set"), info.get("set")),
        "choice or images": (found.get("refit"), info.get("refit")),
    }
    for name, (there, requested) in wanted.items():
        if there != requested:
            raise UserError(
                f"{request.out} holds a finished model with another {name}; choose another --out, "
                "or pass --overwrite instead of --resume."
            )
