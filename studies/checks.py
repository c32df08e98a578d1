"""What a study refuses before anything is scored."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pseudoval.data.dataset import ImageItem
from pseudoval.detectors import Detector
from pseudoval.errors import UserError
from pseudoval.statistics.objectives import needs_pixels
from pseudoval.statistics.rules import RULES
from studies.design.stages import Study
from studies.search.members import Member, paired


def check_fit(
    plan: Study, detector: Detector, manifest: Mapping[str, Any], model: Path, pseudo: Path
) -> None:
    """Refuse a model and a pseudo set that do not belong together.

    Raises:
        UserError: another detector's study, another split, or other categories.
    """
    if plan.detector != detector.name:
        raise UserError(
            f"The study {plan.name} is for the detector {plan.detector}, but {model} holds "
            f"{detector.name}; 'pseudoval studies' lists which study is for which."
        )
    if detector.split_sha256 is None:
        raise UserError(
            f"The model in {model} was refitted on all normals; nothing was held out that it "
            "could be tuned on. Tune the model it was refitted from, or train one with --pseudo "
            f"{pseudo}."
        )
    if detector.split_sha256 != manifest["split_sha256"]:
        raise UserError(
            f"The model in {model} was trained on another split than that of {pseudo}: images "
            "held out for the one may be in the memory bank of the other. Train again with "
            f"--pseudo {pseudo}."
        )
    if sorted(detector.categories) != sorted(manifest["categories"]):
        raise UserError(
            f"The model in {model} knows {', '.join(detector.categories)}, the set in {pseudo} "
            f"has {', '.join(manifest['categories'])}. Train again with --pseudo {pseudo}."
        )


def check_sets(manifests: Sequence[tuple[Path, Mapping[str, Any]]]) -> None:
    """Refuse pseudo sets that one choice cannot be made on.

    Raises:
        UserError: none, one twice, other splits or other categories.
    """
    if not manifests:
        raise UserError("There is no pseudo set to choose on; give one with --pseudo.")
    first, one = manifests[0]
    for place, (folder, manifest) in enumerate(manifests[1:], start=1):
        if manifest in [other for _, other in manifests[:place]]:
            raise UserError(f"The pseudo set in {folder} was given twice; give each once.")
        for name, what in (("split_sha256", "split"), ("categories", "list of categories")):
            if sorted(manifest[name]) != sorted(one[name]):
                raise UserError(
                    f"{folder} has another {what} than {first}; one choice needs sets of the same. "
                    "Build them from the same data with the same --split-seed and --holdout."
                )


def check_configs(plan: Study, detector: Detector) -> None:
    """Refuse grids that cannot be scored, before anything is.

    Raises:
        UserError: naming the parameter, its value and its range.
    """
    for config in plan.cells():
        detector.check(config)


def check_objective(objective: str, rule: str) -> None:
    """Refuse an objective that there is not, or that a rule cannot judge.

    Raises:
        UserError: see the sentence.
    """
    if needs_pixels(objective) and RULES[rule].needs_bootstrap:
        raise UserError(
            f"The rule {rule} needs a bootstrap, and the objective {objective} has none: pixel "
            "figures are kept by category, not by image. Choose --rule best, or an image objective."
        )


def check_paired(members: Sequence[Member], rule: str) -> None:
    """Refuse a rule that needs a bootstrap where sets cannot be resampled together.

    Raises:
        UserError: the sets are not made of the same normals.
    """
    if RULES[rule].needs_bootstrap and not paired(members):
        raise UserError(
            f"The pseudo sets have not the same normals in them, and the rule {rule} resamples "
            "them together; choose --rule best, or build the sets with the same options but seed "
            "and generator."
        )


def check_masks(objective: str, items: Sequence[ImageItem], pseudo: Path) -> None:
    """Refuse an objective of pixels where a category has no mask.

    Raises:
        UserError: naming the category.
    """
    if not needs_pixels(objective):
        return
    for category in sorted({item.category for item in items}):
        masked = [i for i in items if i.category == category and i.label and i.mask_path]
        if not masked:
            raise UserError(
                f"The objective {objective} is not available: {category} has no masks in {pseudo}. "
                "Choose one of the image figures with --objective."
            )
