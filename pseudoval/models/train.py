"""``train``: a MODEL from the normal images that a pseudo set did not hold out; ``refit``."""

import dataclasses
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from lafite_core.config import LafiteConfig
from lafite_core.train import last_epoch, total_epochs
from pseudoval.data.dataset import train_normals
from pseudoval.data.files import require_folder, sha256_file
from pseudoval.detectors import TrainRequest, detector_class
from pseudoval.detectors.base import read_model_json
from pseudoval.errors import UserError
from pseudoval.metrics.runs import load_run
from pseudoval.metrics.score_matrix import Config
from pseudoval.models.direction import pairs_of
from pseudoval.models.fit import fit_all
from pseudoval.models.members import cache_folder, layout, recorded_sha256
from pseudoval.models.settings import configuration, fit_values, scoring_configuration
from pseudoval.progress import ProgressCallback, silent
from pseudoval.pseudo_set.manifest import bank_normals, load_manifest, pseudo_items


def train(
    data: Path,
    pseudo: Path,
    out: Path,
    *,
    detector: str = "lafite",
    preset: str = "cpu",
    backbone: str | None = None,
    weights: Path | None = None,
    epochs: int | None = None,
    keep_epochs: str | None = None,
    settings: Mapping[str, str] | None = None,
    device: str = "auto",
    seed: int = 0,
    seeds: int = 1,
    per_category: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    cache: Path | bool = True,
    executor: Executor | None = None,
    progress: ProgressCallback = silent,
    notice: Callable[[str], None] | None = None,
) -> str:
    """Train a detector on the categories of ``pseudo``, on the normals it did not hold out.

    Only ``train/good`` of DATA is read.

    Args:
        data: root in the MVTec layout.
        pseudo: the pseudo set that holds out normals of the same DATA.
        out: the MODEL folder.
        detector: a name in ``pseudoval.detectors.DETECTORS``, one that another package announces,
            or one's own as ``module:Class``; see ``pseudoval.detectors.own``. Those know no
            preset, backbone, weights or epochs.
        keep_epochs: epochs whose networks are kept beside the last, as text: ``20,40``.
        settings: any option of ``lafite_core.config`` as ``section.name``: text; of one's own
            detector parameters that need a fit, with the value to train with.
        seeds: how many models to train, with the seeds ``seed``, ``seed + 1`` and so on; more
            than one go to ``out/seed-S``.
        per_category: a model for each category in ``CATEGORY``, instead of one for all.
        resume: go on with a training that was interrupted; a finished model is kept.
        overwrite: replace a finished model.
        cache: folder of the feature cache; True is ``out/cache``, False is none.
        executor: who trains, each model as a task, see ``pseudoval.tasks.run_tasks``; None is this
            process alone.

    Returns:
        The model's hash; of several models one over theirs.

    Raises:
        UserError: see the sentence.
    """
    options = dict(settings or {})
    if keep_epochs is not None:
        options["train.keep_epochs"] = keep_epochs
    config, values, kind = None, {}, detector_class(detector)
    if keep_epochs is not None and getattr(kind, "network", None) is None:
        raise UserError(
            f"The detector {detector} is not trained in epochs; leave --keep-epochs out."
        )
    if kind.configurable:
        config = configuration(preset, backbone, epochs, options, detector)
    elif backbone or weights or epochs:
        raise UserError(f"The detector {detector} has no backbone and no epochs; leave them out.")
    else:
        values = fit_values(detector, kind.parameters, options)
    require_folder(pseudo, "pseudo", "pseudoval build DATA")
    manifest = load_manifest(pseudo)
    normals = bank_normals(data, manifest)
    if keep_epochs is not None and config is not None:
        counts = [len(found) for found in normals.values()]
        for count in counts if per_category else [sum(counts)]:
            last_epoch(config.train, total_epochs(config.train, count))
    return fit_all(
        TrainRequest(
            out=out,
            detector=detector,
            config=config,
            backbone=_Backbone(config, weights=weights and weights.absolute()),
            images={
                c: [(item.path, item.sha256) for item in found] for c, found in normals.items()
            },
            split_sha256=manifest["split_sha256"],
            seeds=range(seed, seed + seeds),
            per_category=per_category,
            preset=preset if config is not None else None,
            values=values,
            pairs={} if kind.configurable else pairs_of(pseudo_items(pseudo, manifest)),
            device=device,
            resume=resume,
            overwrite=overwrite,
            cache=cache_folder(out, cache),
            progress=progress,
            notice=notice,
        ),
        executor,
    )


def refit(
    data: Path,
    run: Path,
    out: Path,
    *,
    device: str = "auto",
    seed: int | None = None,
    seeds: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    cache: Path | bool = True,
    executor: Executor | None = None,
    progress: ProgressCallback = silent,
    notice: Callable[[str], None] | None = None,
) -> str:
    """Train the final model: the RUN's on *all* normals of its categories, held-out ones too.

    Detector, configuration, backbone weights and layout are those of the model that was tuned.

    Args:
        seed, seeds: the first seed and how many; None is as in the tuned model. Others as in
            ``train``.

    Raises:
        UserError: the RUN is not finished, or its model is gone or another one by now.
    """
    tuned = load_run(run)
    require_folder(tuned.model, "model", "pseudoval train")
    if recorded_sha256(tuned.model) != tuned.header["trained_sha256"]:
        raise UserError(
            f"The model in {tuned.model} is not the one that {run} was tuned with; restore it, or "
            "tune again."
        )
    leaf, names = layout(tuned.model)
    about = read_model_json(leaf)
    config = None
    if about["config"] is not None:
        config = scoring_configuration(LafiteConfig.from_json(about["config"]), tuned.scoring)
        config = _until(config, tuned.best["params"], len(about["info"].get("losses", ())))
    first = about["seed"] if seed is None else seed
    return fit_all(
        TrainRequest(
            out=out,
            detector=about["info"]["detector"],
            config=config,
            backbone=_Backbone(config, model=leaf.absolute()),
            images={
                category: [(path, sha256_file(path)) for path in train_normals(data, category)]
                for category in tuned.header["categories"]
            },
            split_sha256=None,
            seeds=range(first, first + (seeds or len(names.get("seeds", [""])))),
            per_category="per_category" in names,
            preset=about["info"]["preset"],
            refit={
                "params": tuned.best["params"],
                "run_model_sha256": tuned.best["model_sha256"],
                "study": tuned.best["study"],
                "seed": tuned.best["seed"],
            },
            device=device,
            resume=resume,
            overwrite=overwrite,
            cache=cache_folder(out, cache),
            progress=progress,
            notice=notice,
        ),
        executor,
    )


def _until(config: LafiteConfig, params: Config, epochs: int) -> LafiteConfig:
    """The configuration of a refit: where an epoch was chosen, the schedule of the model that was
    tuned, which had so many, up to that epoch.
    """
    train = dataclasses.replace(config.train, keep_epochs=())
    if "epoch" in params:
        train = dataclasses.replace(
            train, epochs=epochs, min_steps=0, stop_epoch=int(params["epoch"])
        )
    return dataclasses.replace(config, train=train)


class _Backbone:
    """Makes the feature extractor of a configuration, once in a process.

    Args:
        weights: its file; without it, and without ``model``, timm has them.
        model: MODEL that holds its weights.
    """

    def __init__(
        self, config: LafiteConfig | None, weights: Path | None = None, model: Path | None = None
    ) -> None:
        self._from = (config, weights, model)
        self._made: Any = None

    def __call__(self) -> Any:
        config, weights, model = self._from
        if self._made is None and config is not None:
            from lafite_core.backbones import make_backbone  # brings torch
            from lafite_core.model import LafiteModel

            self._made = (
                make_backbone(config.features, weights)
                if model is None
                else LafiteModel.load(model).backbone
            )
        return self._made

    def __reduce__(self) -> Any:
        return _Backbone, self._from
