"""Which images ``predict`` judges, what they are called, and which model judges them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pseudoval.data.dataset import IMAGE_SUFFIXES
from pseudoval.data.files import folder_kind
from pseudoval.detectors import Detector
from pseudoval.errors import UserError

PREDICTIONS = "predictions"
"""The kind of folder that ``predict`` writes, and passes over."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """An image to judge.

    Attributes:
        name: POSIX path relative to what all images have in common.
        category: "" where the detector does not ask for it.
    """

    name: str
    path: Path
    category: str = ""


def find_images(arguments: Sequence[Path]) -> list[Target]:
    """The image files among the arguments and below the folders among them, sorted by name.

    Hidden files and folders and earlier predictions are passed over. Names are relative to the
    folder given; where several arguments are given, to what they have in common.

    Raises:
        UserError: an argument does not exist or is no image, or a folder has no images.
    """
    files: list[Path] = []
    for argument in arguments:
        if argument.is_dir():
            below = _below(argument)
            if not below:
                raise UserError(f"There is no image in {argument} or below it.")
            files += below
        elif not argument.exists():
            raise UserError(f"There is no image or folder at {argument}.")
        elif argument.suffix.lower() not in IMAGE_SUFFIXES:
            kinds = ", ".join(suffix[1:] for suffix in IMAGE_SUFFIXES)
            raise UserError(f"{argument} is not an image file ({kinds}).")
        else:
            files.append(argument)
    bases = [path if path.is_dir() else path.parent for path in arguments]
    root = os.path.commonpath([os.path.normpath(base.absolute()) for base in bases])
    named = {Path(os.path.relpath(path, root)).as_posix(): path for path in files}
    return [Target(name=name, path=named[name]) for name in sorted(named)]


def with_categories(
    targets: Sequence[Target], detector: Detector, category: str | None
) -> list[Target]:
    """The targets with the category that decides which model judges them.

    Raises:
        UserError: the category is unknown, or one is needed and cannot be told from the path.
    """
    known = ", ".join(detector.categories)
    if category is not None and category not in detector.categories:
        raise UserError(f"The model knows no category {category!r}; it knows {known}.")
    if category is not None or detector.of_all:
        return [replace(target, category=category or "") for target in targets]
    found = []
    for target in targets:
        folders = reversed(Path(os.path.normpath(target.path.absolute())).parts[:-1])
        nearest = next((part for part in folders if part in detector.categories), None)
        if nearest is None:
            raise UserError(
                f"There is one model for each of {known}, and no folder of {target.path} is named "
                "like one; pass --category NAME."
            )
        found.append(replace(target, category=nearest))
    return found


def map_names(names: Sequence[str]) -> list[str]:
    """A PNG for each image, in the same folders; images that differ in suffix only keep it."""
    places = [f"{name.rpartition('.')[0]}.png" for name in names]
    if len({place.casefold() for place in places}) < len(places):
        return [f"{name}.png" for name in names]
    return places


def _below(folder: Path) -> list[Path]:
    found = []
    for place, folders, files in os.walk(folder):
        here = Path(place)
        shown = [name for name in folders if name[0] != "."]
        folders[:] = [name for name in shown if folder_kind(here / name) != PREDICTIONS]
        found += [here / name for name in files if name[0] != "."]
    return [path for path in found if path.suffix.lower() in IMAGE_SUFFIXES]
