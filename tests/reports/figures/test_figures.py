"""Figures: what is drawn, on what scale, and the same bytes each time."""

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from report_runs import make_run

from reports import correlate, load_run
from reports.figures.curves import category_figures, curves_figure, stage_figure
from reports.figures.errors import errors_figure, shown_blocks
from reports.figures.examples import Example, read_examples
from reports.figures.features import features_figure, patch_shares, project
from reports.figures.sheet import close_up, example_figure, sheet_figure
from reports.figures.style import PSEUDO, TEST, png, svg


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("figures") / "run")


@pytest.fixture(scope="module")
def correlation(run: Path) -> dict[str, Any]:
    return correlate(load_run(run))


def _errors(edited: float) -> np.ndarray:
    return np.stack([np.zeros((4, 6)), np.full((4, 6), edited)]).astype(np.float32)


def _example(**more: Any) -> Example:
    mask = np.zeros((40, 60), dtype=bool)
    plain = Example(
        id="a/0.png",
        category="a",
        which="pseudo",
        kind="pseudo anomaly",
        config={"t": 200, "k": 2},
        score=1.0,
        image=np.full((40, 60, 3), 90, dtype=np.uint8),
        mask=mask,
        map=np.zeros((20, 30), dtype=np.float32),
        errors=_errors(1.0),
    )
    return replace(plain, **more)


def _lines(axes: Any) -> dict[str, Any]:
    """Lines with marks by their mark."""
    return {line.get_marker(): line for line in axes.lines if line.get_marker() != "None"}


def test_curves_carry_their_bands_and_marks(correlation: dict[str, Any]) -> None:
    stage = {**correlation["stages"][0], "default": 300}
    axes = stage_figure(stage).axes[0]
    lines = _lines(axes)
    assert lines["o"].get_ydata().tolist() == stage["pseudo_auroc"]
    assert lines["s"].get_ydata().tolist() == stage["test_auroc"]
    assert lines["D"].get_xdata()[0] == stage["oracle"]
    assert lines["^"].get_xdata()[0] == 300
    assert any(list(line.get_xdata()) == [200, 200] for line in axes.lines)  # the choice
    drawn = [path.vertices[:, 1] for band in axes.collections for path in band.get_paths()]
    bands = [np.array(stage[key]) for key in ("pseudo_interval", "test_interval")]
    assert [(ys.min(), ys.max()) for ys in drawn] == [(ys.min(), ys.max()) for ys in bands]
    low, high = axes.get_ylim()
    assert low < min(ys.min() for ys in bands) and high > max(ys.max() for ys in bands)


def test_no_label_is_cut_off(correlation: dict[str, Any]) -> None:
    large = {"values": [100, 200, 1000], "selected": 1000, "oracle": 1000, "default": 1000}
    names = {**large, "values": ["a name longer than its place", "b", "c"], "default": "c"}
    names |= {"param": "configuration", "selected": "b", "oracle": "c"}
    for more in (large, names):
        figure = stage_figure({**correlation["stages"][0], **more})
        FigureCanvasAgg(figure).draw()
        axes = figure.axes[0]
        low, high = axes.get_xlim()
        ticks = [one for one in axes.get_xticklabels() if low <= one.get_position()[0] <= high]
        labels = [axes.xaxis.label, axes.yaxis.label, *ticks]
        for artist in (axes.get_legend(), *labels):
            box = artist.get_window_extent()
            assert box.x0 >= 0 and box.y0 >= 0, artist
            assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, artist


def test_the_two_sets_differ_without_colour() -> None:
    assert PSEUDO["marker"] != TEST["marker"] and PSEUDO["linestyle"] != TEST["linestyle"]


def test_one_panel_for_each_category_on_one_axis(correlation: dict[str, Any]) -> None:
    figure = curves_figure(correlation)
    assert len(figure.axes) >= 2 + 2 * 2
    stages = {name: part["stages"][1] for name, part in correlation["per_category"].items()}
    alone = category_figures(stages)
    assert list(alone) == ["cable", "tire"]
    assert alone["cable"].axes[0].get_ylim() == alone["tire"].axes[0].get_ylim()


def test_names_are_drawn_without_lines_between_them(correlation: dict[str, Any]) -> None:
    stage = correlation["stages"][0]
    names = {"values": ["wide", "deep", "small"], "selected": "deep", "oracle": "wide"}
    axes = stage_figure({**stage, **names, "param": "configuration", "default": None}).axes[0]
    assert {line.get_linestyle() for line in _lines(axes).values()} == {"None"}
    assert [label.get_text() for label in axes.get_xticklabels()] == names["values"]


def test_the_same_figure_gives_the_same_bytes(correlation: dict[str, Any]) -> None:
    stage = correlation["stages"][1]
    assert svg(stage_figure(stage)) == svg(stage_figure(stage))
    text = svg(stage_figure(stage)).decode()
    assert "<dc:date>" not in text and "matplotlib.org" not in text.split("<metadata>")[-1]
    assert not re.search(r"(?:href|src)=\"(?!#)", text)
    data = png(stage_figure(stage))
    assert data == png(stage_figure(stage))
    with Image.open(io.BytesIO(data)) as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert image.size[0] == pytest.approx(4.7 * 300, abs=2)


def test_a_close_up_holds_the_largest_part_and_stays_inside() -> None:
    mask = np.zeros((40, 60), dtype=bool)
    mask[2:4, 2:4] = True
    mask[30:40, 45:60] = True
    left, right, top, bottom = close_up(_example(mask=mask))
    assert (right, bottom) == (60, 40)
    assert right - left == bottom - top == pytest.approx(1.6 * 15)
    assert close_up(_example(mask=None)) == (0, 60, 0, 40)
    dot = np.zeros((40, 60), dtype=bool)
    dot[20, 30] = True
    left, right, *_ = close_up(_example(mask=dot))
    assert right - left == pytest.approx(0.2 * 40)


def test_the_sheet_shows_pseudo_anomalies_only() -> None:
    normal, real = _example(kind="normal image"), _example(kind="real defect")
    assert sheet_figure([normal, real]) is None
    figure = sheet_figure([normal, *[_example() for _ in range(4)], _example(category="b"), real])
    assert figure is not None and len(figure.axes) == 2 * 5
    assert [one.get_ylabel() for one in figure.axes if one.get_ylabel()] == ["a", "a", "b"]


def test_errors_share_one_scale_in_a_category() -> None:
    normal = _example(kind="normal image")
    weak = _example(kind="real defect", score=1.0)
    strong = _example(kind="real defect", score=2.0, errors=_errors(7.0))
    examples = [normal, _example(score=9.0), weak, strong]
    assert shown_blocks(examples) == [("a", [normal, strong])]
    figure = errors_figure(examples)
    assert figure is not None
    scales = {image.get_clim() for axes in figure.axes for image in axes.images if image.colorbar}
    drawn = [axes.images[0].get_clim() for axes in figure.axes if axes.images][1:]
    assert drawn.count((0.0, 7.0)) == 4 and scales == {(0.0, 7.0)}


def test_errors_need_two_kinds_and_two_maps() -> None:
    normal, pseudo = _example(kind="normal image"), _example()
    same = replace(pseudo, errors=_errors(0.0))
    assert errors_figure([normal, pseudo]) is not None  # a pseudo anomaly will do
    assert errors_figure([normal]) is None and errors_figure([pseudo]) is None
    assert errors_figure([replace(normal, errors=None), pseudo]) is None
    assert errors_figure([normal, same]) is None


def test_an_example_is_three_pictures(run: Path) -> None:
    for example in read_examples(run / "examples"):
        assert len(example_figure(example, (0.0, 1.0)).axes) == 3


def test_patch_shares_count_pixels() -> None:
    mask = np.zeros((8, 12), dtype=bool)
    mask[:4, :3] = True
    mask[4:6, 6:9] = True
    shares = patch_shares(mask, 2, 4)
    assert shares.tolist() == [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.5, 0.0]]
    assert patch_shares(np.ones((3, 3), dtype=bool), 2, 2).min() == 1.0


def _with_features(noise: float, rng: np.random.Generator) -> Example:
    """Anomalous patches (left half) lie 10 along channel 2, all spread 3 along channel 0."""
    features = np.zeros((5, 4, 6), dtype=np.float32)
    features[0] = np.where(np.arange(4)[:, None] % 2, 3, -3)
    features[2, :, :3] = 10
    mask = np.zeros((40, 60), dtype=bool)
    mask[:, :30] = True
    noised = noise * rng.standard_normal((5, 4, 6)).astype(np.float32)
    return _example(mask=mask, features=np.stack([features, noised]), large_t=400)


def test_the_plane_is_that_of_the_largest_variance(rng: np.random.Generator) -> None:
    patches = project([_with_features(1.0, rng)])
    assert patches is not None and patches.large_t == 400
    assert patches.anomalous.sum() == 12
    # Along the first direction: 10 apart and centred; along the second: the spread of 3.
    assert sorted(set(np.round(patches.points[0, :, 0], 4))) == [-5.0, 5.0]
    assert (patches.points[0, patches.anomalous, 0] > 0).all()  # the sign is fixed
    assert patches.explained == pytest.approx((25 / 34, 9 / 34))
    before, after = patches.separations
    assert before == pytest.approx(10 / 3) and after < 1
    alone = features_figure([_with_features(1.0, rng)])
    assert alone is not None and len(alone.axes) == 2
    assert alone.axes[0].get_xlim() == alone.axes[1].get_xlim()
    FigureCanvasAgg(alone).draw()
    assert alone.legends[0].get_window_extent().x1 <= alone.bbox.x1
    other = replace(_with_features(1.0, rng), category="b")
    both = features_figure([_with_features(1.0, rng), other])
    assert both is not None and [axes.get_title(loc="left") for axes in both.axes] == [
        "a, step 0", "step 400", "b, step 0", "step 400",
    ]  # fmt: skip


def test_patches_that_a_mask_touches_are_left_out(rng: np.random.Generator) -> None:
    example = _with_features(1.0, rng)
    mask = np.zeros((40, 60), dtype=bool)
    mask[:, :32] = True  # three columns of patches, and a fifth of the next
    patches = project([replace(example, mask=mask)])
    assert patches is not None and len(patches.anomalous) == 24 - 4


def test_no_plane_without_features(rng: np.random.Generator) -> None:
    example = _with_features(1.0, rng)
    assert features_figure([_example()]) is None
    assert project([replace(example, mask=None)]) is None
    assert project([replace(example, features=np.ones((2, 5, 4, 6), dtype=np.float32))]) is None
    blank = np.zeros((40, 60), dtype=bool)
    assert features_figure([replace(example, mask=blank)]) is None  # no anomalous patch
