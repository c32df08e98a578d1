"""Opening a MODEL folder: the detectors in it, ready to score."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pseudoval.data.files import require_folder
from pseudoval.detectors import Detector, OpenRequest, detector_class, find_detector
from pseudoval.detectors.base import read_model_json
from pseudoval.detectors.per_category import PerCategoryDetector
from pseudoval.errors import UserError
from pseudoval.models.members import cache_folder, layout, read_members
from pseudoval.models.settings import find_device, scoring_configuration
from pseudoval.models.source import ModelSource, remember


def open_detector(
    folder: Path,
    *,
    seed: int | None,
    device: str = "cpu",
    cache: Path | bool = True,
    settings: Mapping[str, str] | None = None,
    on_workers: bool = False,
) -> Detector:
    """The detector in a MODEL folder: one model, or one model per category.

    Args:
        seed: of the noise that scoring draws; None is that of the run that a refitted model was
            chosen by, else the model's own.
        settings: options to score with instead of the model's own; see
            ``pseudoval.models.settings.scoring_configuration``.
        cache: folder of the feature cache; True is that of the MODEL, False is none.
        on_workers: whether it is for others to score with: ``device`` is found by each of them, and
            this process, which may have no GPU or only one of theirs, opens it on the CPU.

    Raises:
        UserError: not a MODEL folder, of an unknown detector, or models of several seeds; or an
            option that is not one of scoring.
        LafiteError: a model in it is unfinished, damaged or of another format.
    """
    require_folder(folder, "model", "pseudoval train")
    members = read_members(folder)
    if members is not None and members.kind == "seeds":
        places = ", ".join(str(folder / name) for name in members.names)
        raise UserError(f"{folder} holds models of several seeds; name one of them: {places}.")
    if members is not None:
        one = partial(
            open_detector, seed=seed, device=device, cache=cache, settings=settings,
            on_workers=on_workers,
        )  # fmt: skip
        return PerCategoryDetector({name: one(folder / name) for name in members.names})
    about = read_model_json(folder)
    detector = about["info"]["detector"]
    found = detector_class(detector)
    if settings and not found.configurable:
        raise UserError(
            f"The detector {detector} in {folder} has no options of scoring; leave "
            f"{next(iter(settings))} out."
        )
    if seed is None:
        seed = int(about["info"].get("refit", about)["seed"])
    opened = found.open(
        OpenRequest(
            folder=folder,
            seed=seed,
            device="cpu" if on_workers else find_device(device),
            cache=cache_folder(folder, cache),
            configure=partial(scoring_configuration, settings=settings or {}),
        )
    )
    remember(
        opened,
        ModelSource(
            folder=folder.absolute(),
            seed=seed,
            device=device,
            cache=cache.absolute() if isinstance(cache, Path) else cache,
            settings=tuple((settings or {}).items()),
            model_sha256=opened.model_sha256,
        ),
    )
    return opened


def default_study(folder: Path) -> str:
    """The built-in study for the detector in a MODEL folder; of one that has kept epochs, it ends
    with the choice of one.

    Raises:
        UserError: not a MODEL folder, or of an unknown detector.
    """
    require_folder(folder, "model", "pseudoval train")
    about = read_model_json(layout(folder)[0])
    study = find_detector(about["info"]["detector"]).study
    kept = about["config"] is not None and about["config"]["train"].get("keep_epochs")
    return f"{study}_then_epoch" if kept and study in ("t_then_k", "k") else study


def open_detectors(folder: Path, **options: Any) -> dict[str, Detector]:
    """The detectors of every seed in a MODEL folder by name, such as ``seed-0``.

    A MODEL of one seed has the name ``""``. Arguments and errors as in ``open_detector``.
    """
    require_folder(folder, "model", "pseudoval train")
    members = read_members(folder)
    names = members.names if members is not None and members.kind == "seeds" else [""]
    return {name: open_detector(folder / name, **options) for name in names}
