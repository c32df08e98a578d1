"""Fitting the models that one command asks for: one, or one per seed, per category, or both."""

import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lafite_core.config import LafiteConfig
from pseudoval import __version__
from pseudoval.data.files import MARKER, atomic_path, claimed, clear_folder, sha256_json
from pseudoval.detectors import FitRequest, detector_class
from pseudoval.detectors.base import MODEL, read_model_json
from pseudoval.errors import UserError
from pseudoval.models.loss_picture import write_loss_picture
from pseudoval.models.members import Members, check_layout, listed, members_sha256, seed_name
from pseudoval.progress import ProgressCallback, labelled, silent

LOSS_PICTURE = "loss.png"


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """What one command trains.

    Attributes:
        out: the MODEL folder.
        detector: a name in ``pseudoval.detectors.DETECTORS``.
        config: None for a detector without options.
        backbone: makes the feature extractor.
        images: file and SHA-256 of every normal to train on, by category.
        split_sha256: None if nothing is held out.
        seeds: of the models; more than one go to ``out/seed-S``.
        per_category: a model for each category in ``CATEGORY``, instead of one for all.
        refit: the choice that the model is refitted with; None for a model that is to be tuned.
        resume: go on in what is there; a finished model is never trained again.
        overwrite: throw away what is there.
        cache: folder of the feature cache; None for none.
        notice: takes a sentence for the user, such as on a smaller micro-batch.
        group: the processes that train together; a ``lafite_core.distributed.Group``.
    """

    out: Path
    detector: str
    config: LafiteConfig | None
    backbone: Callable[[], Any]
    images: Mapping[str, Sequence[tuple[Path, str]]]
    split_sha256: str | None
    seeds: Sequence[int]
    per_category: bool
    preset: str | None
    refit: Mapping[str, Any] | None = None
    device: str
    resume: bool
    overwrite: bool
    cache: Path | None
    progress: ProgressCallback
    notice: Callable[[str], None] | None
    group: Any = None


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
    request = replace(request, device=device, group=group)
    try:
        if not group.leads:
            return _fit(replace(request, progress=silent), None)
        with claimed(request.out, "model"):
            _make_room(request)
            return _fit(request, None)
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


def _fit(request: TrainRequest, twin: Path | None) -> str:
    """Train one model, or one for each seed or category of the request.

    Args:
        twin: the same folder of another seed, which has the same features.
    """
    if len(request.seeds) > 1:
        members = Members(kind="seeds", names=[seed_name(seed) for seed in request.seeds])
        parts = [replace(request, seeds=[seed]) for seed in request.seeds]
    elif request.per_category:
        members = Members(kind="per_category", names=list(request.images))
        parts = [
            replace(request, images={category: files}, per_category=False)
            for category, files in request.images.items()
        ]
    else:
        if request.group.leads:
            check_layout(request.out, None)
        return _fit_one(request, twin)
    hashes: dict[str, str] = {}
    with _laid_out(request, members):
        for name, part in zip(members.names, parts, strict=True):
            if members.kind == "seeds":
                same = request.out / members.names[0] if hashes else None
            else:
                same = twin / name if twin else None
            part = replace(part, out=request.out / name, progress=labelled(request.progress, name))
            with _laid_out(part):
                hashes[name] = _fit(part, same)
    return members_sha256(hashes)


@contextmanager
def _laid_out(request: TrainRequest, members: Members | None = None) -> Iterator[None]:
    """A folder made ready for a model, or for members, by the first process."""
    if not request.group.leads:
        yield
    elif members is None:
        with claimed(request.out, "model"):
            yield
    else:
        check_layout(request.out, members)
        with listed(request.out, members):
            yield


def _fit_one(request: TrainRequest, twin: Path | None) -> str:
    """One model, unless it is finished already; features are taken from ``twin`` if they fit."""
    from lafite_core.train_features import FEATURES

    categories = sorted(request.images)
    images = [image for category in categories for image in request.images[category]]
    info: dict[str, Any] = {
        "detector": request.detector,
        "categories": list(request.images),
        "split_sha256": request.split_sha256,
        "package_version": __version__,
        "python": platform.python_version(),
        "preset": request.preset,
        "train_images": {category: len(request.images[category]) for category in categories},
    }
    if request.refit is not None:
        info["refit"] = {**request.refit, "images_sha256": sha256_json([sha for _, sha in images])}
    request.group.wait()  # the first process has made the folder ready
    finished = (request.out / MODEL).exists()
    request.group.wait()
    if finished:
        require_same(read_model_json(request.out), request, info)
    else:
        if twin is not None:
            _share(twin / FEATURES, request.out / FEATURES)
        detector_class(request.detector).train(
            FitRequest(
                folder=request.out,
                images=images,
                info=info,
                seed=request.seeds[0],
                device=request.device,
                config=request.config,
                backbone=request.backbone,
                cache=request.cache,
                group=request.group,
                progress=request.progress,
                notice=request.notice,
            )
        )
    about = read_model_json(request.out)
    losses, picture = about["info"].get("losses"), request.out / LOSS_PICTURE
    if losses and request.config and request.group.leads and not picture.exists():
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
    for name, (there, asked) in wanted.items():
        if there != asked:
            raise UserError(
                f"{request.out} holds a finished model with another {name}; choose another --out, "
                "or pass --overwrite instead of --resume."
            )


def _share(source: Path, target: Path) -> None:
    """Give a folder the features of another without a second copy, where the disk can do that.

    ``fit`` compares the content key, and replaces files rather than writing into them.
    """
    if target.exists() or not source.exists():
        return
    with atomic_path(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
