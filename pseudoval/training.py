"""``train``: a MODEL from the normal images that a pseudo set did not hold out."""

import dataclasses
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pseudoval.dataset import ImageItem
from pseudoval.detectors import NAMES
from pseudoval.errors import UserError
from pseudoval.files import MARKER, claimed, clear_folder, require_folder, sha256_file
from pseudoval.images import read_rgb
from pseudoval.manifest import bank_normals, load_manifest

Progress = Callable[[str, int, int], None]


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
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress,
) -> str:
    """Train a detector on the categories of ``pseudo``, on the normals it did not hold out.

    Only ``train/good`` of DATA is read. All categories share one model.

    Args:
        data: root in the MVTec layout.
        pseudo: the pseudo set that holds out normals of the same DATA.
        out: the MODEL folder.
        settings: any option of ``lafite_core.config`` as ``section.name``: text.
        resume: go on with a training that was interrupted; a finished model is kept.
        overwrite: replace a finished model.

    Returns:
        The model's hash.

    Raises:
        UserError: see the sentence.
    """
    # Imported here so that commands without a model start without torch.
    from lafite_core.backbones import make_backbone
    from lafite_core.model import LafiteModel
    from pseudoval.detectors.feature_models import fit_detector

    if detector not in NAMES:
        raise UserError(f"There is no detector {detector!r}; the detectors are {', '.join(NAMES)}.")
    config = configuration(preset, backbone, epochs, settings or {})
    device = find_device(device)
    require_folder(pseudo, "pseudo", "pseudoval build DATA")
    manifest = load_manifest(pseudo)
    by_category = bank_normals(data, manifest)
    items = [item for category in sorted(by_category) for item in by_category[category]]
    keys = [sha256_file(item.path) for item in items]
    with claimed(out, "model"):
        if resume and (out / "model.json").exists():
            return same_model(LafiteModel.load(out), detector, config, seed, manifest, out)
        if not resume and not overwrite and any(child.name != MARKER for child in out.iterdir()):
            raise UserError(
                f"{out} already holds a model or an unfinished training; go on with --resume, "
                "start anew with --overwrite, or choose another --out."
            )
        extractor = make_backbone(config.features, weights)
        if not resume:
            clear_folder(out)
        return fit_detector(
            detector,
            _images(items),
            keys,
            config,
            extractor,
            out,
            categories=manifest["categories"],
            split_sha256=manifest["split_sha256"],
            seed=seed,
            device=device,
            resume=resume,
            progress=progress,
            info={"preset": preset, "train_images": {c: len(by_category[c]) for c in by_category}},
        ).sha256()


def same_model(
    model: Any, detector: str, config: Any, seed: int, manifest: Mapping[str, Any], out: Path
) -> str:
    """The hash of a finished model, if it is the one that was asked for.

    Raises:
        UserError: naming what differs.
    """
    wanted = {
        "detector": (model.info["detector"], detector),
        "configuration": (model.config, config),
        "seed": (model.seed, seed),
        "split": (model.info["split_sha256"], manifest["split_sha256"]),
    }
    for name, (found, asked) in wanted.items():
        if found != asked:
            raise UserError(
                f"{out} holds a finished model with another {name}; choose another --out, or pass "
                "--overwrite instead of --resume."
            )
    return str(model.sha256())


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
    from lafite_core.config import SECTIONS, LafiteConfig
    from lafite_core.config import preset as named

    value = named(preset).to_json()
    if backbone is not None:
        value["features"]["backbone"] = backbone
    if epochs is not None:
        value["train"] |= {"epochs": epochs, "min_steps": 0}
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

    Lists are written ``1,2,3`` and mappings ``key=value,key=value``.

    Raises:
        UserError: the text is not of that kind.
    """
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    try:
        if origin is tuple:
            return [parse_option(name, part, parts[0]) for part in text.split(",")]
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


def _images(items: Sequence[ImageItem]) -> Iterator[np.ndarray]:
    for item in items:
        yield read_rgb(item.path)
