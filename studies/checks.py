"""What a study refuses before anything is scored."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pseudoval.data.dataset import ImageItem
from pseudoval.detectors import Detector
from pseudoval.errors import UserError
from pseudoval.pseudo_set.manifest import Manifest
from pseudoval.statistics.objectives import needs_pixels
from pseudoval.statistics.rules import find_rule
from studies.design.sampler_names import GRID
from studies.design.stages import Study
from studies.search.members import Member, paired
from studies.search.prepared import PreparedStudy
from studies.search.samplers import check_sampler


def check_repeats(repeats: int) -> None:
    """Refuse to score with no seed at all.

    Raises:
        UserError: naming the number.
    """
    if repeats < 1:
        raise UserError(f"{repeats} repeats score nothing; give at least 1.")


def check_objective(objective: str, rule: str) -> None:
    """Refuse an objective or a rule that there is not, or that do not go together.

    Raises:
        UserError: see the sentence.
    """
    if find_rule(rule).needs_bootstrap and needs_pixels(objective):
        raise UserError(
            f"The rule {rule} needs a bootstrap, and the objective {objective} has none: pixel "
            "figures are kept by category, not by image. Choose --rule best, or an image objective."
        )


def check_grids(plan: Study, names: Iterable[str]) -> None:
    """Refuse a grid that a study does not search.

    Args:
        names: of the parameters that a grid was given for.

    Raises:
        UserError: naming the first such parameter.
    """
    searched = plan.grids()
    for name in names:
        if name not in searched:
            raise UserError(
                f"The study {plan.name} has no parameter {name}, only {', '.join(searched)}; leave "
                f"--{option_of(name)} out."
            )


def option_of(name: str) -> str:
    """The option that gives a grid over a parameter."""
    return name if name in ("t", "k") else f"grid {name}=..."


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


def check_images(items: Sequence[ImageItem], manifest: Manifest) -> None:
    """Refuse a pseudo set whose images are not those that its manifest describes.

    Raises:
        UserError: naming the first image that changed.
    """
    for item, entry in zip(items, manifest["images"], strict=True):
        if item.sha256 != entry["sha256"]:
            raise UserError(
                f"{item.path} is not the image that the pseudo set was made with; build the set "
                "again with --overwrite."
            )


def check_study(study: PreparedStudy, manifest: Mapping[str, Any], share: float | None) -> None:
    """Refuse a study whose parts do not go together.

    Args:
        manifest: of its first pseudo set.
        share: of the cells off the path that are wanted; None is none.

    Raises:
        UserError: see the sentence.
    """
    plan, objective, rule = study.plan, study.header["objective"], study.header["rule"]
    check_objective(objective, rule)
    check_paired(study.members, rule)
    if share is not None:
        check_share(plan, share)
    for stage in plan.stages:
        check_sampler(stage, study.sampler)
    for member in study.members:
        check_member(plan, member, manifest)
        check_maps(objective, member.detector)
        check_masks(objective, member.items, member.pseudo)
        for config in plan.cells():
            member.detector.check(config)


def check_member(plan: Study, member: Member, manifest: Mapping[str, Any]) -> None:
    """Refuse a model that does not belong to a study and a pseudo set.

    Raises:
        UserError: another detector's study, another split, or other categories.
    """
    detector, model, pseudo = member.detector, member.model, member.pseudo
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


def check_paired(members: Sequence[Member], rule: str) -> None:
    """Refuse a rule that needs a bootstrap where sets cannot be resampled together.

    Raises:
        UserError: the sets are not made of the same normals.
    """
    if find_rule(rule).needs_bootstrap and not paired(members):
        raise UserError(
            f"The pseudo sets have not the same normals in them, and the rule {rule} resamples "
            "them together; choose --rule best, or build the sets with the same options but seed "
            "and generator."
        )


def check_maps(objective: str, detector: Detector) -> None:
    """Refuse an objective of pixels for a detector without anomaly maps.

    Raises:
        UserError: naming the detector.
    """
    if needs_pixels(objective) and not detector.has_maps:
        raise UserError(
            f"The objective {objective} is not available: the detector {detector.name} has no "
            "anomaly maps. Choose one of the image figures with --objective."
        )


def check_masks(objective: str, items: Sequence[ImageItem], pseudo: Path) -> None:
    """Refuse an objective of pixels where a category has no mask.

    Raises:
        UserError: naming the category.
    """
    if not needs_pixels(objective):
        return
    masked = {item.category for item in items if item.label and item.mask_path}
    lacking = sorted({item.category for item in items} - masked)
    if lacking:
        raise UserError(
            f"The objective {objective} is not available: {lacking[0]} has no masks in {pseudo}. "
            "Choose one of the image figures with --objective."
        )


def check_share(plan: Study, share: float) -> None:
    """Refuse a share of the cells off the path that cannot be scored.

    Raises:
        UserError: the share is not in (0, 1], or the study has no cells off its path.
    """
    if any(stage.ranges for stage in plan.stages):
        raise UserError(
            f"The study {plan.name} searches a range, which has no cells to audit; leave "
            "--audit-joint out, or give lists."
        )
    if not 0 < share <= 1:
        raise UserError(f"The share of cells to audit is {share:g}; give one above 0, up to 1.")
    if not any(stage.inherits or stage.sampler != GRID for stage in plan.stages):
        raise UserError(
            f"The study {plan.name} searches its whole grid, so there is no cell off its path; "
            "leave --audit-joint out."
        )
