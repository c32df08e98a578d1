"""Fitting the models that one command asks for: one, or one per seed, per category, or both."""

import dataclasses
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pseudoval.data.files import MARKER, atomic_path, claimed, clear_folder, sha256_json
from pseudoval.data.images import read_rgb
from pseudoval.errors import UserError
from pseudoval.models.loss_picture import write_loss_picture
from pseudoval.models.members import Members, check_layout, listed, members_sha256, seed_name
from pseudoval.progress import ProgressCallback, labelled, silent

LOSS_PICTURE = "loss.png"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What all models that one command trains have in common.

    Attributes:
        config: a ``lafite_core.config.LafiteConfig``.
        backbone: makes the feature extractor.
        images: file and SHA-256 of every normal to train on, by category.
        split_sha256: None if nothing is held out.
        refit: the choice that the model is refitted with; None for a model that is to be tuned.
        notice: takes a sentence for the user, such as on a smaller micro-batch.
        group: the processes that train together; a ``lafite_core.distributed.Group``.
        cache: folder of the feature cache; None for none.
    """

    detector: str
    config: Any
    backbone: Callable[[], Any]
    images: Mapping[str, Sequence[tuple[Path, str]]]
    split_sha256: str | None
    device: str
    preset: str | None
    refit: Mapping[str, Any] | None = None
    notice: Callable[[str], None] | None = None
    group: Any = None
    cache: Path | None = None


def fit_all(
    recipe: Recipe,
    out: Path,
    seeds: Sequence[int],
    per_category: bool,
    *,
    resume: bool,
    overwrite: bool,
    progress: ProgressCallback,
) -> str:
    """Train every model of a command into ``out``, in the layout that docs/design.md describes.

    Under ``torchrun`` the processes train each model together; the first one does all the rest.

    Args:
        seeds: more than one go to ``out/seed-S``.
        per_category: a model for each category in ``CATEGORY``, instead of one for all.
        resume: go on in what is there; a finished model is never trained again.
        overwrite: throw away what is there.

    Returns:
        The model's hash; of several models one over theirs.

    Raises:
        UserError: ``out`` holds something else; see the sentence.
    """
    from lafite_core.distributed import join, leave

    group, device = join(recipe.device)
    recipe = dataclasses.replace(recipe, device=device, group=group)
    try:
        if not group.leads:
            return _follow(recipe, out, seeds, per_category)
        return _lead(recipe, out, seeds, per_category, resume, overwrite, progress)
    finally:
        leave()


def _follow(recipe: Recipe, out: Path, seeds: Sequence[int], per_category: bool) -> str:
    """Train along with the first process, model by model in its order."""
    hashes = {}
    for seed in seeds:
        folder = out if len(seeds) == 1 else out / seed_name(seed)
        if not per_category:
            hashes[seed_name(seed)] = _fit_one(
                recipe, folder, list(recipe.images), seed, None, silent
            )
            continue
        parts = {
            category: _fit_one(recipe, folder / category, [category], seed, None, silent)
            for category in recipe.images
        }
        hashes[seed_name(seed)] = members_sha256(parts)
    return next(iter(hashes.values())) if len(seeds) == 1 else members_sha256(hashes)


def _lead(
    recipe: Recipe,
    out: Path,
    seeds: Sequence[int],
    per_category: bool,
    resume: bool,
    overwrite: bool,
    progress: ProgressCallback,
) -> str:
    with claimed(out, "model"):
        if not resume and not overwrite and any(child.name != MARKER for child in out.iterdir()):
            raise UserError(
                f"{out} already holds a model or an unfinished training; go on with --resume, "
                "start anew with --overwrite, or choose another --out."
            )
        if not resume:
            recipe.backbone()  # what is wrong with it shows before anything is thrown away
            clear_folder(out)
        if len(seeds) == 1:
            return _fit_seed(recipe, out, seeds[0], per_category, None, progress)
        folders = {seed_name(seed): seed_name(seed) for seed in seeds}
        members = Members(kind="seeds", folders=folders)
        check_layout(out, members)
        hashes = {}
        with listed(out, members) as places:
            first = next(iter(places.values()))
            for seed, (name, place) in zip(seeds, places.items(), strict=True):
                with claimed(place, "model"):
                    twin = None if place == first else first
                    report = labelled(progress, name)
                    hashes[name] = _fit_seed(recipe, place, seed, per_category, twin, report)
        return members_sha256(hashes)


def _fit_seed(
    recipe: Recipe,
    folder: Path,
    seed: int,
    per_category: bool,
    twin: Path | None,
    progress: ProgressCallback,
) -> str:
    """One model, or one per category; ``twin`` is the same folder of another seed."""
    categories = list(recipe.images)
    if not per_category:
        check_layout(folder, None)
        return _fit_one(recipe, folder, categories, seed, twin, progress)
    members = Members(kind="per_category", folders={c: c for c in categories})
    check_layout(folder, members)
    hashes = {}
    with listed(folder, members) as places:
        for category, place in places.items():
            with claimed(place, "model"):
                same = twin / category if twin else None
                report = labelled(progress, category)
                hashes[category] = _fit_one(recipe, place, [category], seed, same, report)
    return members_sha256(hashes)


def _fit_one(
    recipe: Recipe,
    folder: Path,
    categories: Sequence[str],
    seed: int,
    twin: Path | None,
    progress: ProgressCallback,
) -> str:
    """One model, unless it is finished already; features are taken from ``twin`` if they fit."""
    from lafite_core.model import LafiteModel
    from lafite_core.parallel import on_each_core
    from lafite_core.train_features import FEATURES
    from pseudoval.detectors.feature_models import fit_detector

    images = [image for category in sorted(categories) for image in recipe.images[category]]
    keys = [sha for _, sha in images]
    info: dict[str, Any] = {
        "preset": recipe.preset,
        "train_images": {c: len(recipe.images[c]) for c in sorted(categories)},
    }
    if recipe.refit is not None:
        info["refit"] = {**recipe.refit, "images_sha256": sha256_json(keys)}
    recipe.group.wait()  # the first process has made the folder ready
    finished = (folder / "model.json").exists()
    recipe.group.wait()
    if finished:
        model = LafiteModel.load(folder)
        require_same(model, recipe, categories, seed, info.get("refit"), folder)
    else:
        if twin is not None:
            _share(twin / FEATURES, folder / FEATURES)
        model = fit_detector(
            recipe.detector,
            on_each_core(read_rgb, [path for path, _ in images]),
            keys,
            recipe.config,
            recipe.backbone(),
            folder,
            categories=categories,
            split_sha256=recipe.split_sha256,
            seed=seed,
            device=recipe.device,
            resume=True,  # what is not to be taken up has been removed
            progress=progress,
            notice=recipe.notice,
            group=recipe.group,
            info=info,
            cache=recipe.cache,
        )
    losses = model.info.get("losses")
    if losses and recipe.group.leads and not (folder / LOSS_PICTURE).exists():
        write_loss_picture(folder / LOSS_PICTURE, losses, model.config.train.drop_after)
    return str(model.sha256())


def require_same(
    model: Any,
    recipe: Recipe,
    categories: Sequence[str],
    seed: int,
    refit: Mapping[str, Any] | None,
    folder: Path,
) -> None:
    """Check that a finished model is the one that was asked for.

    Raises:
        UserError: naming what differs.
    """
    wanted = {
        "detector": (model.info["detector"], recipe.detector),
        "configuration": (model.config, recipe.config),
        "seed": (model.seed, seed),
        "split": (model.info["split_sha256"], recipe.split_sha256),
        "set of categories": (sorted(model.info["categories"]), sorted(categories)),
        "choice or images": (model.info.get("refit"), refit),
    }
    for name, (found, asked) in wanted.items():
        if found != asked:
            raise UserError(
                f"{folder} holds a finished model with another {name}; choose another --out, or "
                "pass --overwrite instead of --resume."
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
