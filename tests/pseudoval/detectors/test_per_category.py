"""One model per category behind the protocol of one model for all."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pseudoval.data.dataset import test_items as items_of
from pseudoval.data.images import read_rgb
from pseudoval.detectors import Block, Parameter
from pseudoval.detectors.per_category import PerCategoryDetector
from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import Config
from pseudoval.models.open import open_detector
from pseudoval.scoring.matrices import score_images

CONFIGS = [{"t": 25, "k": 0}, {"t": 300, "k": 4}]


class Constant:
    """A detector that gives every image its own number."""

    of_all = True
    name = "constant"
    split_sha256 = "s"
    seed = 0
    refit = None
    has_maps = True
    scores_in_maps = True

    def __init__(self, category: str, high: int, side: int = 4, seed: int = 0) -> None:
        self.categories = [category]
        self.model_sha256 = category
        self.seed = seed
        self.side = side
        self.parameters = (
            Parameter(name="k", low=1, high=high, grid=(1, 5, 9), default=5, needs_fit=False,
                      meaning="k"),
        )  # fmt: skip

    def check(self, config: Config) -> None:
        if int(config["k"]) > self.parameters[0].high:
            raise UserError(f"k = {config['k']} is above {self.parameters[0].high}")

    def score_block(self, images: Sequence[np.ndarray], configs: Sequence[Config]) -> Block:
        raise NotImplementedError

    def provenance(self) -> dict[str, object]:
        return {"detector": self.name, "map_side": self.side}


def test_mixed_blocks_equal_one_image_at_a_time(several: Path, road: Path) -> None:
    detector = open_detector(several / "model" / "seed-3", seed=5)
    members = {
        name: open_detector(several / "model" / "seed-3" / name, seed=5)
        for name in ("fabric", "flange")
    }
    fabric, flange = (items_of(road / "data", name) for name in members)
    mixed = [*fabric[:2], *flange[:3], *fabric[2:], *flange[3:]]
    matrix = score_images(detector, mixed, CONFIGS, name="mixed")
    assert [item.category for item in mixed] == matrix.categories
    for column, item in enumerate(mixed):
        judge = members[item.category]
        block = judge.score_block([read_rgb(item.path)], CONFIGS)
        assert matrix.scores[:, column].tolist() == block.scores[:, 0].tolist()
        other = members["flange" if item.category == "fabric" else "fabric"]
        wrong = other.score_block([read_rgb(item.path)], CONFIGS)
        assert (wrong.scores[:, 0] != matrix.scores[:, column]).all()
    assert matrix.header["per_category"] is True
    alone = score_images(members["flange"], flange, CONFIGS, name="flange")
    assert np.array_equal(matrix.pixel["pixel_aupro"][:, 1], alone.pixel["pixel_aupro"][:, 0])


def test_limits_are_the_tightest() -> None:
    detector = PerCategoryDetector({"a": Constant("a", 40), "b": Constant("b", 7)})  # type: ignore
    (parameter,) = detector.parameters
    assert (parameter.low, parameter.high) == (1, 7)
    assert parameter.grid == (1, 5)
    detector.check({"k": 7})
    with pytest.raises(UserError, match="k = 8 is above 7"):
        detector.check({"k": 8})
    assert detector.categories == ["a", "b"]


@pytest.mark.parametrize(
    ("other", "what"),
    [(Constant("b", 9, side=8), "map size"), (Constant("b", 9, seed=1), "noise seed")],
)
def test_members_that_do_not_belong_together(other: Constant, what: str) -> None:
    with pytest.raises(UserError, match=f"a and b differ in their {what}"):
        PerCategoryDetector({"a": Constant("a", 9), "b": other})  # type: ignore[dict-item]


def test_pixels_alone_are_refused(several: Path) -> None:
    detector = open_detector(several / "model" / "seed-3", seed=0)
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    with pytest.raises(UserError, match="name the category"):
        detector.score_block([image], CONFIGS)
    with pytest.raises(UserError, match="name the category"):
        detector.explain(image, CONFIGS[0])
    with pytest.raises(UserError, match=r"no model for the category 'wood'.*fabric, flange"):
        detector.of("wood")
    assert detector.of("flange").categories == ["flange"]
