"""Every option is checked, documented and written down."""

import ast
import dataclasses
import inspect
import json
from typing import Any

import pytest

from lafite_core import config as module
from lafite_core.config import SECTIONS, LafiteConfig, preset
from lafite_core.errors import LafiteError

PRESETS = ("cpu", "paper", "demo")
WRONG = {
    "features.stages": (1, 1),
    "features.image_size": 16,
    "features.grid": 0,
    "features.resize": "cubic",
    "features.normalise": "batch",
    "edit.keep_rate": 0.0,
    "edit.weights": "nearest",
    "unet.base_channels": 12,
    "unet.multipliers": (),
    "unet.blocks": 0,
    "unet.attention_levels": (-1,),
    "unet.dropout": 1.0,
    "diffusion.eta": 1.5,
    "diffusion.target": "x_0",
    "train.learning_rate": 0.0,
    "train.ema_decay": 1.0,
    "train.micro_batch": -1,
    "train.precision": "float16",
    "train.compile": "yes",
    "score.pool": 225,
    "score.reduction": "mean",
    "score.top_share": 0.0,
    "score.precision": "float64",
}


def replaced(name: str, value: Any) -> LafiteConfig:
    section, option = name.split(".")
    base = LafiteConfig()
    changed = dataclasses.replace(getattr(base, section), **{option: value})
    return dataclasses.replace(base, **{section: changed})


@pytest.mark.parametrize("name", WRONG)
def test_a_value_that_cannot_be_used_is_refused_by_name(name: str) -> None:
    with pytest.raises(LafiteError, match=rf"The option {name} is .*; it must be "):
        replaced(name, WRONG[name])


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name: str) -> None:
    assert LafiteConfig.from_json(json.loads(json.dumps(preset(name).to_json()))) == preset(name)


def test_no_attention_is_a_choice() -> None:
    assert replaced("unet.attention_levels", ()).unet.attention_levels == ()


def test_every_option_says_what_it_is_and_why() -> None:
    """A text below each field: what it does, and for an open choice the reason."""
    classes = [
        node for node in ast.parse(inspect.getsource(module)).body if isinstance(node, ast.ClassDef)
    ]
    for node in classes:
        if node.name.removesuffix("Config").lower() not in SECTIONS and node.name != "UNetConfig":
            continue
        for option, text in zip(node.body[1::2], node.body[2::2], strict=True):
            assert isinstance(option, ast.AnnAssign)
            assert isinstance(text, ast.Expr), ast.unparse(option)
            assert len(ast.literal_eval(text.value)) > 15


def test_the_paper_preset_is_what_the_paper_states() -> None:
    paper = preset("paper")
    assert (paper.features.backbone, paper.features.stages) == ("tf_efficientnet_b4", (1, 2, 3, 4))
    assert (paper.features.image_size, paper.features.grid) == (224, 32)
    assert (paper.unet.base_channels, paper.unet.multipliers) == (256, (1, 2, 3, 4))
    assert (paper.diffusion.steps, paper.edit.keep_rate, paper.score.sigma) == (1000, 0.1, 4.0)
    train = paper.train
    assert (train.epochs, train.batch_size, train.learning_rate) == (1000, 64, 1e-4)
    assert (train.weight_decay, train.drop_after, train.drop_factor) == (1e-4, 0.8, 0.1)
