"""``train``: a MODEL from the normal images that a pseudo set did not hold out."""

import dataclasses
import functools
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pseudoval.data.dataset import train_normals
from pseudoval.data.files import require_folder, sha256_file
from pseudoval.detectors import NAMES
from pseudoval.errors import UserError
from pseudoval.metrics.runs import load_run
from pseudoval.models.fit import Recipe, fit_all
from pseudoval.models.members import cache_folder, read_members, recorded_sha256
from pseudoval.progress import ProgressCallback
from pseudoval.pseudo_set.manifest import bank_normals, load_manifest

SCORING = ("diffusion.sampling_steps", "diffusion.evaluations", "diffusion.eta")
"""Options, beside those of ``score``, that a trained model can be scored with another value of."""


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
    settings: Mapping[str, str] | None = None,
    device: str = "auto",
    seed: int = 0,
    seeds: int = 1,
    per_category: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    cache: Path | bool = True,
    progress: ProgressCallback,
    notice: Callable[[str], None] | None = None,
) -> str:
    """Train a detector on the categories of ``pseudo``, on the normals it did not hold out.

    Only ``train/good`` of DATA is read.

    Args:
        data: root in the MVTec layout.
        pseudo: the pseudo set that holds out normals of the same DATA.
        out: the MODEL folder.
        settings: any option of ``lafite_core.config`` as ``section.name``: text.
        seeds: how many models to train, with the seeds ``seed``, ``seed + 1`` and so on; more
            than one go to ``out/seed-S``.
        per_category: a model for each category in ``CATEGORY``, instead of one for all.
        resume: go on with a training that was interrupted; a finished model is kept.
        overwrite: replace a finished model.
        cache: folder of the feature cache; True is ``out/cache``, False is none.

    Returns:
        The model's hash; of several models one over theirs.

    Raises:
        UserError: see the sentence.
    """
    # Imported here so that commands without a model start without torch.
    from lafite_core.backbones import make_backbone

    if detector not in NAMES:
        raise UserError(f"There is no detector {detector!r}; the detectors are {', '.join(NAMES)}.")
    config = configuration(preset, backbone, epochs, settings or {})
    device = find_device(device)
    require_folder(pseudo, "pseudo", "pseudoval build DATA")
    manifest = load_manifest(pseudo)
    normals = bank_normals(data, manifest)
    recipe = Recipe(
        detector=detector,
        config=config,
        backbone=functools.cache(lambda: make_backbone(config.features, weights)),
        images={c: _hashed([item.path for item in normals[c]]) for c in manifest["categories"]},
        split_sha256=manifest["split_sha256"],
        device=device,
        preset=preset,
        notice=notice,
        cache=cache_folder(out, cache),
    )
    return fit_all(
        recipe,
        out,
        range(seed, seed + seeds),
        per_category,
        resume=resume,
        overwrite=overwrite,
        progress=progress,
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
    progress: ProgressCallback,
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
    from lafite_core.model import LafiteModel

    tuned = load_run(run)
    require_folder(tuned.model, "model", "pseudoval train")
    # Scored with other options than its own, the model has another hash than MODEL.
    trained = tuned.header["trained_sha256"] if tuned.scoring else tuned.best["model_sha256"]
    if recorded_sha256(tuned.model) != trained:
        raise UserError(
            f"The model in {tuned.model} is not the one that {run} was tuned with; restore it, or "
            "tune again."
        )
    leaf, kinds, known = tuned.model, set(), [""]
    while (members := read_members(leaf)) is not None:
        kinds.add(members.kind)
        known = list(members.folders) if members.kind == "seeds" else known
        leaf = leaf / next(iter(members.folders.values()))
    model = LafiteModel.load(leaf)
    first = model.seed if seed is None else seed
    extractor = model.backbone
    recipe = Recipe(
        detector=model.info["detector"],
        config=scoring_configuration(model.config, tuned.scoring),
        backbone=lambda: extractor,
        images={c: _hashed(train_normals(data, c)) for c in tuned.header["categories"]},
        split_sha256=None,
        device=find_device(device),
        preset=model.info.get("preset"),
        refit={
            "params": tuned.best["params"],
            "run_model_sha256": tuned.best["model_sha256"],
            "study": tuned.best["study"],
            "seed": tuned.best["seed"],
        },
        notice=notice,
        cache=cache_folder(out, cache),
    )
    del model  # its network need not stay in memory beside the one that is trained
    return fit_all(
        recipe,
        out,
        range(first, first + (seeds or len(known))),
        "per_category" in kinds,
        resume=resume,
        overwrite=overwrite,
        progress=progress,
    )


def _hashed(paths: Sequence[Path]) -> list[tuple[Path, str]]:
    return [(path, sha256_file(path)) for path in paths]


def configuration(
    preset: str, backbone: str | None, epochs: int | None, settings: Mapping[str, str]
) -> Any:
    """The configuration of a preset with single options replaced.

    ``--epochs`` means exactly that many: it switches ``train.min_steps`` off.

    Returns:
        A ``lafite_core.config.LafiteConfig``.

    Raises:
        UserError: an unknown option or a value of the wrong kind.
        LafiteError: an unknown preset or a value out of range.
    """
    from lafite_core.config import preset as named

    value = named(preset).to_json()
    if backbone is not None:
        value["features"]["backbone"] = backbone
    if epochs is not None:
        value["train"] |= {"epochs": epochs, "min_steps": 0}
    return _replaced(value, settings)


def scoring_configuration(config: Any, settings: Mapping[str, str]) -> Any:
    """The configuration of a trained model with options replaced that only scoring depends on.

    Args:
        config: a ``lafite_core.config.LafiteConfig``.

    Raises:
        UserError: an option that is unknown or decides what is trained, or a value of the wrong
            kind.
        LafiteError: a value out of range.
    """
    fixed = [name for name in settings if name not in SCORING and not name.startswith("score.")]
    if fixed:
        raise UserError(
            f"The option {fixed[0]} cannot be set for scoring, only {', '.join(SCORING)} and "
            "score.NAME; what else there is has been decided by 'pseudoval train --set'."
        )
    return _replaced(config.to_json(), settings)


def _replaced(value: dict[str, Any], settings: Mapping[str, str]) -> Any:
    """A configuration in its JSON form with single options replaced; errors as above."""
    from lafite_core.config import SECTIONS, LafiteConfig

    for name, text in settings.items():
        section, _, option = name.partition(".")
        kinds = typing.get_type_hints(SECTIONS[section]) if section in SECTIONS else {}
        if option not in kinds:
            known = [f"{s}.{f.name}" for s, c in SECTIONS.items() for f in dataclasses.fields(c)]
            raise UserError(f"There is no option {name!r}; the options are {', '.join(known)}.")
        value[section][option] = parse_option(name, text, kinds[option])
    return LafiteConfig.from_json(value)


def parse_option(name: str, text: str, kind: Any) -> Any:
    """Text of the command line as an option of the given type.

    Lists are written ``1,2,3`` (nothing is an empty one) and mappings ``key=value,key=value``.

    Raises:
        UserError: the text is not of that kind.
    """
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    try:
        if origin is tuple:
            return [parse_option(name, part, parts[0]) for part in text.split(",") if part]
        if origin is Mapping:
            return dict(pair.split("=", 1) for pair in text.split(","))
        if origin is typing.Literal:
            return text
        if parts:  # an optional value
            return parse_option(name, text, next(p for p in parts if p is not type(None)))
        return kind(text)
    except ValueError:
        raise UserError(f"The option {name} cannot be {text!r}.") from None


def find_device(name: str) -> str:
    """``auto`` is the GPU where there is one.

    Raises:
        UserError: ``cuda`` was asked for and there is none.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda was asked for, but torch sees no GPU; use --device cpu.")
    return name
