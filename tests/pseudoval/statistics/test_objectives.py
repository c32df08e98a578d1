"""Objectives against scikit-learn, and their bootstrap against images written out again."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import PIXEL_METRICS, ScoreMatrix
from pseudoval.statistics.bootstrap import bootstrap_auroc
from pseudoval.statistics.objectives import (
    OBJECTIVES,
    bootstrap,
    by_category,
    needs_pixels,
    objective_intervals,
    parts_of,
    values,
)
from pseudoval.statistics.samples import draw_groups
from pseudoval.statistics.weighted import weighted_ap

NAMES = ["cable", "tire"]


def matrix(rng: np.random.Generator, *, masks: bool = True) -> ScoreMatrix:
    """Three configurations on twenty images a category, with ties; the categories lie apart."""
    labels = np.arange(40) % 2
    scores = np.round(rng.standard_normal((3, 40)) + labels, 1)
    scores[:, 20:] += 1
    pixel = {name: rng.random((3, 2)) for name in PIXEL_METRICS}
    if not masks:
        for table in pixel.values():
            table[:, 1] = math.nan
    return ScoreMatrix(
        scores=scores,
        configs=[{"t": 1, "k": k} for k in range(3)],
        images=[str(i) for i in range(40)],
        categories=["cable"] * 20 + ["tire"] * 20,
        labels=labels,
        groups=[f"g{i // 2}" if i < 10 else str(i) for i in range(40)],
        pixel=pixel,
        pixel_reason=["", "" if masks else "no defect image of this category has a mask"],
    )


def test_values_are_those_of_scikit_learn(rng: np.random.Generator) -> None:
    made = matrix(rng)
    halves = [slice(0, 20), slice(20, 40)]
    for row, line in enumerate(made.scores):
        aurocs = [roc_auc_score(made.labels[part], line[part]) for part in halves]
        precisions = [average_precision_score(made.labels[part], line[part]) for part in halves]
        assert by_category("macro_image_auroc", made)[row] == pytest.approx(aurocs)
        assert by_category("image_ap", made)[row] == pytest.approx(precisions)
        assert values("macro_image_auroc", made)[row] == pytest.approx(np.mean(aurocs))
        assert values("image_ap", made)[row] == pytest.approx(np.mean(precisions))
        pooled = roc_auc_score(made.labels, line)
        assert values("pooled_image_auroc", made)[row] == pytest.approx(pooled)
        assert pooled != pytest.approx(np.mean(aurocs)), "else this says nothing"
        assert values("pixel_aupro", made)[row] == made.pixel["pixel_aupro"][row].mean()
        both = values("image_ap+pixel_auroc", made)[row]
        assert both == pytest.approx(
            (np.mean(precisions) + made.pixel["pixel_auroc"][row].mean()) / 2
        )


def test_resampled_ap_is_that_of_the_images_written_out(rng: np.random.Generator) -> None:
    made = matrix(rng)
    group = np.arange(20) // 2
    anomalous = made.labels[:20] == 1
    counts = draw_groups(group, anomalous, 12, rng)
    found = weighted_ap(made.scores[:, :20], anomalous, counts, group)
    assert found.shape == (3, 12)
    for replicate in range(12):
        again = np.repeat(np.arange(20), counts[group, replicate])
        for row in range(3):
            expected = average_precision_score(anomalous[again], made.scores[row, again])
            assert found[row, replicate] == pytest.approx(expected)
    lacking = made.scores[:, :20].copy()
    lacking[1, 3] = math.nan
    partly = weighted_ap(lacking, anomalous, counts, group)
    assert np.isnan(partly[1]).all() and np.array_equal(partly[[0, 2]], found[[0, 2]])


def test_resampled_pooled_auroc_draws_within_categories(rng: np.random.Generator) -> None:
    made = matrix(rng)
    drawn = []
    for place, part in enumerate((np.arange(20), np.arange(20, 40))):
        _, group = np.unique(np.array(made.groups)[part], return_inverse=True)
        own = np.random.default_rng([3, 0, place])
        drawn.append((part, group, draw_groups(group, made.labels[part] == 1, 8, own)))
    found = bootstrap("pooled_image_auroc", made, replicates=8, seed=3)
    assert found is not None
    assert found.names == ["all"] and found.sizes == [(20, 20)]
    for replicate in range(8):
        again = np.concatenate(
            [np.repeat(part, counts[group, replicate]) for part, group, counts in drawn]
        )
        expected = roc_auc_score(made.labels[again], made.scores[0, again])
        assert found.values[0, 0, replicate] == pytest.approx(expected)


@pytest.mark.parametrize("name", ["macro_image_auroc", "pooled_image_auroc", "image_ap"])
def test_the_bootstrap_is_about_the_value_and_its_interval_holds_it(
    rng: np.random.Generator, name: str
) -> None:
    made = matrix(rng)
    part = bootstrap(name, made, replicates=400)
    assert part is not None
    assert part.means == pytest.approx(values(name, made))
    assert np.abs(part.values.mean(axis=(0, 2)) - part.means).max() < 0.03
    low, high = objective_intervals(name, part).T
    assert (low < part.means).all() and (part.means < high).all()
    assert ((high - low) > 0.1).all(), "twenty images do not tell more"
    if name == "macro_image_auroc":
        plain = bootstrap_auroc(
            made.scores, made.categories, made.labels, made.groups, replicates=400
        )
        assert np.array_equal(part.values, plain.values)


def test_a_mean_of_two_pairs_its_parts(rng: np.random.Generator) -> None:
    made = matrix(rng)
    parts = {name: bootstrap(name, made, replicates=30) for name in OBJECTIVES}
    both = bootstrap("macro_image_auroc+image_ap", made, replicates=30)
    mixed = bootstrap("pooled_image_auroc+image_ap", made, replicates=30)
    macro, pooled, ap = (parts[name] for name in list(OBJECTIVES)[:3])
    assert both and mixed and macro and pooled and ap
    assert both.names == NAMES and np.allclose(both.values, (macro.values + ap.values) / 2)
    assert mixed.names == ["all"]
    assert np.allclose(mixed.values[0], (pooled.values[0] + ap.values.mean(axis=0)) / 2)
    assert mixed.means == pytest.approx(values("pooled_image_auroc+image_ap", made))
    assert parts["pixel_auroc"] is None
    assert bootstrap("image_ap+pixel_auroc", made) is None


def test_names_that_there_are_not() -> None:
    assert parts_of("image_ap + pixel_auroc") == ["image_ap", "pixel_auroc"]
    assert needs_pixels("image_ap+pixel_auroc") and not needs_pixels("image_ap")
    with pytest.raises(UserError, match=r"no objective 'auroc'; the objectives are macro_image_"):
        parts_of("auroc")
    for wrong in ("image_ap+image_ap", "image_ap+pixel_ap+pixel_auroc"):
        with pytest.raises(UserError, match="mean of two different"):
            parts_of(wrong)


def test_pixels_that_there_are_not(rng: np.random.Generator) -> None:
    with pytest.raises(UserError, match=r"not available for tire \(no defect image"):
        values("pixel_auroc", matrix(rng, masks=False))
    made = matrix(rng)
    made.scores[1, 0] = math.nan
    found = values("pixel_auroc", made)
    assert np.isnan(found).tolist() == [False, True, False], "without a score nothing is a value"
