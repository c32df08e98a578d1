"""Every choice of the model, by name, with its default and the reason for it.

Stated by the paper: EfficientNet-b4 stages 1 to 4 on one grid, 10 % core set, U-Net multipliers
(1, 2, 3, 4), T = 1000, cosine schedule, AdamW with a drop of the learning rate to a tenth after
80 % of the epochs, Gaussian sigma 4, average pooling before the maximum. What it leaves open is
marked *open* below.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

from lafite_core.errors import LafiteError

Resize = Literal["antialiased", "bilinear"]
Normalise = Literal["channel", "global", "none"]
NeighbourWeights = Literal["inverse_distance", "softmax", "uniform"]
Target = Literal["epsilon", "x0", "v"]
Reduction = Literal["max", "top_mean"]
Precision = Literal["auto", "float32", "bfloat16"]
Switch = Literal["auto", "on", "off"]
FixedPrecision = Literal["float32", "bfloat16", "float16"]
ScorePrecision = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """Section 3.1: from an image to one grid of feature vectors."""

    backbone: str = "tf_efficientnet_b4"
    """A timm model name, or ``filterbank`` for the built-in filter bank."""
    backbone_args: Mapping[str, str] = field(default_factory=dict)
    """Extra keyword arguments for timm, such as ``{"pad_type": "same"}``."""
    mean: tuple[float, ...] | None = None
    """RGB mean subtracted before the backbone, in [0, 1]; None is what the backbone declares."""
    std: tuple[float, ...] | None = None
    """RGB deviation divided by before the backbone; None is what the backbone declares."""
    stages: tuple[int, ...] = (1, 2, 3, 4)
    """Stages whose outputs are concatenated, counted from 1; the network is cut after the last."""
    image_size: int = 224
    """Images are resized to this many pixels square; *open*, 224 is what comparable work uses."""
    grid: int = 14
    """Side of the common grid; *open*. 14 is the native size of stage 4 at 224 pixels (UniAD's
    choice); 32 is what a secondary reading of the paper gives."""
    resize: Resize = "antialiased"
    """How a stage reaches the grid; *open*. Both are bilinear. ``antialiased`` widens the kernel
    where a stage shrinks, so that every activation counts; plain ``bilinear`` (UniAD's) reads four
    of the 64 that a cell of 14 covers at stage 1, which aliases."""
    normalise: Normalise = "channel"
    """Scale of the features over all normal training patches; *open*. ``channel`` gives every
    channel mean 0 and variance 1: the scale sets the signal-to-noise ratio at each t, and some
    channels of a pretrained network are hundreds of times larger than others. ``global`` uses
    one mean and one deviation for all channels, which keeps their relative sizes; ``none`` leaves
    the features as they are, so that the best t depends on the backbone."""
    precision: FixedPrecision = "float32"
    """Arithmetic of the backbone. float32 by default: features of normals lie close together, and
    16 bits move them by about as much as a faint defect does. The others are for a GPU, where they
    are faster."""


@dataclass(frozen=True, kw_only=True)
class EditConfig:
    """Section 3.2: memory bank and feature editing."""

    keep_rate: float = 0.1
    """Share of the normal patch features kept in the core set."""
    weights: NeighbourWeights = "inverse_distance"
    """How the K neighbours are mixed; *open*. Inverse distance needs no temperature, and gives an
    exact member of the bank back unchanged."""
    temperature: float = 1.0
    """Scale of ``softmax`` weights, in units of the root-mean-square distance to the K
    neighbours."""


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Section 3.3: the noise predictor."""

    base_channels: int = 64
    """Channels at the first level; the paper's is 256, 64 is what two cores train in minutes."""
    multipliers: tuple[int, ...] = (1, 2, 3, 4)
    """Channels of each level as multiples of the base; the grid halves (rounding up) between."""
    blocks: int = 1
    """Residual blocks per level and direction; *open*, 2 at the paper's scale as in DDPM."""
    attention_levels: tuple[int, ...] = (2, 3)
    """Levels with self-attention, counted from 0 (those that the network has), beside the middle;
    *open*, the lower levels as in DDPM."""
    head_channels: int = 32
    """Channels per attention head; *open*."""
    dropout: float = 0.0
    """Dropout inside the residual blocks; *open*, none as in the closest public code."""
    linear_channels: int | None = None
    """Width of a linear path from input to output beside the U-Net, with a gain per channel and
    timestep; None is that of the features (272 of EfficientNet-b4), 0 is no such path. White noise
    has as many dimensions as the features have channels; a first level that is narrower (64 against
    272) cannot even express the noise it is to predict, and leaves most of it in the
    reconstruction. At full width the network detects better, and well at nearly every t. The
    paper's 256 channels hardly need it: none in its preset."""


@dataclass(frozen=True, kw_only=True)
class UniadConfig:
    """The transformer of UniAD (You et al. 2022), the other network that reconstructs features.

    The defaults are its published size, 7.7 million weights for 272 channels on a grid of 14.
    """

    width: int = 256
    """Channels of a token inside the network; half of the position is that of the row, half that
    of the column."""
    heads: int = 8
    """Attention heads."""
    feedforward: int = 1024
    """Width of the layer inside a feed-forward network."""
    encoder_layers: int = 4
    """Layers that mix the tokens of the image."""
    decoder_layers: int = 4
    """Layers that ask them, each with a learned query of its own."""
    dropout: float = 0.1
    """Dropout of attention weights, in feed-forward networks and before every sum. On a CPU passes
    with dropout are done one after another, as it draws from one generator."""
    neighbourhood: int = 7
    """Side of the square around a token, in grid cells, that it does not see in any attention: what
    lies there would let it copy itself. Odd; 0 lets every token see all."""
    jitter: float = 20.0
    """Deviation of the Gaussian noise that is added to every feature in training, in units of its
    token's norm divided by the number of channels: normal features are to come out of features
    that are not."""


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """Section 3.3: schedule and sampler."""

    steps: int = 1000
    """T, the length of the schedule."""
    offset: float = 0.008
    """s of the cosine schedule (Nichol and Dhariwal 2021, eq. 17)."""
    max_beta: float = 0.999
    """Upper limit of a single step's noise (same source)."""
    sampling_steps: int = 10
    """Steps of every trajectory from t to 0; *open*. A fixed number, rather than a fixed interval,
    gives every t the same cost and lets different t share a batch."""
    evaluations: int = 0
    """At how many of these steps the network is asked, the first and the last among them; *open*,
    0: at all. At the others the clean features are extrapolated from earlier predictions, see
    ``diffusion.extrapolated``. Half of the steps lead to nearly the same scores, unlike DDIM in
    half as many steps: ``benchmarks/solver.py`` compares them."""
    eta: float = 0.0
    """Fresh noise in each DDIM step (Song et al. 2021, eq. 16): 0 is deterministic, 1 is as much
    as DDPM; *open*. 0: a score should not carry more chance than the first noising brings."""
    target: Target = "epsilon"
    """What the network predicts; *open*. ``epsilon``, the noise (DDPM, and the closest public
    code); ``x0``, the clean features; ``v = sqrt(alpha_bar) epsilon - sqrt(1 - alpha_bar) x0``
    (Salimans and Ho 2022). The loss is the mean square error of whichever it is."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Section 4: optimisation."""

    epochs: int = 100
    """Passes over the training features; *open* at this scale, the paper's is 1000."""
    min_steps: int = 1500
    """Epochs are added until there are this many steps, so that a small category is not left
    undertrained; 0 switches this off."""
    keep_epochs: tuple[int, ...] = ()
    """Epochs whose averaged weights are kept beside the last, so that the epoch can be chosen."""
    stop_epoch: int = 0
    """The epoch after which the training stops, on the schedule of its full length; 0 is at its
    end."""
    batch_size: int = 16
    """Images per step."""
    learning_rate: float = 4e-4
    """AdamW; *open*. 1e-4 at the paper's scale, more for the smaller network."""
    weight_decay: float = 1e-4
    """AdamW's; the value that a secondary reading of the paper gives."""
    drop_after: float = 0.8
    """Share of the training after which the learning rate is multiplied by ``drop_factor``."""
    drop_factor: float = 0.1
    """The paper's tenfold drop."""
    ema_decay: float = 0.999
    """Exponential moving average of the weights that scoring uses; *open*, InversionAD's value.
    It is warmed up as min(decay, (1 + n) / (10 + n)) after n steps; 0 uses the last weights."""
    clip_norm: float = 1.0
    """Largest gradient norm; *open*, the usual value for diffusion models."""
    checkpoint_seconds: float = 30.0
    """A resumable checkpoint is written at the end of an epoch when the last is older, or later
    where writing takes so long that more than a twentieth of the time would go into it; 0 writes
    one after every epoch."""
    micro_batch: int = 0
    """Images per forward and backward pass; gradients are accumulated to ``batch_size``. 0 is the
    whole batch on a GPU, halved when its memory runs out, and 8 images on a CPU, where each pass is
    done by one thread, several side by side."""
    precision: Precision = "auto"
    """Arithmetic of the network: ``bfloat16`` autocast or ``float32``; ``auto`` is bfloat16 on a
    GPU that has it. Weights, loss and optimiser are float32 in both."""
    compile: Switch = "auto"
    """``torch.compile``; ``auto`` is on for a GPU. Where it fails, training goes on without."""


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """Section 3.3: from two feature maps to an anomaly map and an image score."""

    sigma: float = 4.0
    """Gaussian smoothing of the upsampled map, in pixels at ``image_size``."""
    pool: int = 16
    """Side of the average-pooling window, stride 1, in pixels at ``image_size``; *open*,
    UniAD's. 1 is no pooling."""
    standardise: Literal["auto", "position", "none"] = "auto"
    """What image scores are made of; *open*. ``none``: the errors as they are. ``position``: how
    far an error is from the mean error of normal images at the same position of the grid, in
    deviations (squared, the mean of the variance there and of that of all positions). The edge of
    a part, which is never quite the same, then does not outshine a faint defect elsewhere. The
    normal images are those of the training, each edited by the others. Anomaly maps keep the
    errors: in an even background the deviation is small, and a map would show every speck.
    ``auto`` is ``position`` where there is a network, and ``none`` for plain nearest neighbours."""
    standardise_images: int = 64
    """Training images that ``position`` measures, spread evenly over all; they are scored once for
    each configuration. More hardly change a result of one category, and little of several."""
    reduction: Reduction = "max"
    """From the pooled map to the image score: its maximum (the paper's), or ``top_mean``, the
    mean over its highest values (Dinomaly's)."""
    top_share: float = 0.01
    """Share of the pooled map that ``top_mean`` averages; Dinomaly's 1 %."""
    batch_size: int = 16
    """Trajectories per network call; the last call is padded to it, so that a result never
    depends on how much is scored. 16 and 48 divide the work of a block, 16 images by the 12 and 9
    values of the default grids."""
    precision: ScorePrecision = "auto"
    """Arithmetic of the network when scoring: ``auto`` is float32 on a CPU and float16 on a GPU,
    which moves scores by less than a thousandth of their deviation, ten times less than bfloat16
    (``benchmarks/on_gpu.py`` measures it). Activations beyond 65504 would turn into scores that
    are no numbers, and be reported."""
    compile: Literal["auto", "off"] = "auto"
    """``torch.compile``; ``auto`` is on for a GPU. Where it fails, scoring goes on without."""


@dataclass(frozen=True, kw_only=True)
class LafiteConfig:
    """All of the above."""

    features: FeatureConfig = field(default_factory=FeatureConfig)
    edit: EditConfig = field(default_factory=EditConfig)
    unet: UNetConfig = field(default_factory=UNetConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    uniad: UniadConfig = field(default_factory=UniadConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)

    def __post_init__(self) -> None:
        check(self)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON-able form; ``from_json`` is its inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "LafiteConfig":
        """Rebuild from ``to_json``.

        Raises:
            LafiteError: a section or an option that this version does not know.
        """
        parts: dict[str, Any] = {}
        for name, section in SECTIONS.items():
            options = value.get(name, {})  # a section may be younger than the model
            known = {option.name for option in dataclasses.fields(section)}
            unknown = sorted(set(options) - known)
            if unknown:
                raise LafiteError(
                    f"The model's configuration has an unknown option {name}.{unknown[0]}; "
                    "it was written by another version of pseudoval."
                )
            parts[name] = section(
                **{k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
            )
        return cls(**parts)


SECTIONS: dict[str, Any] = {
    section.name: section.default_factory for section in dataclasses.fields(LafiteConfig)
}
"""The class of each section by its name."""


def check(config: LafiteConfig) -> None:
    """Refuse values that no computation can use.

    Raises:
        LafiteError: the option, its value and its range.
    """
    size = config.features.image_size
    stages = config.features.stages
    multipliers = config.unet.multipliers
    rules: list[tuple[str, bool, str]] = [
        ("features.stages", 0 < len(set(stages)) == len(stages) and min(stages) >= 1,
         "distinct, >= 1"),
        ("features.image_size", size >= 32, "at least 32"),
        ("features.grid", 1 <= config.features.grid <= size, "between 1 and image_size"),
        ("edit.keep_rate", 0 < config.edit.keep_rate <= 1, "in (0, 1]"),
        ("edit.temperature", config.edit.temperature > 0, "above 0"),
        ("unet.base_channels", config.unet.base_channels >= 8
         and config.unet.base_channels % 8 == 0, "a multiple of 8"),
        ("unet.multipliers", bool(multipliers) and min(multipliers) >= 1, "at least 1 each"),
        ("unet.blocks", config.unet.blocks >= 1, "at least 1"),
        ("unet.attention_levels", all(level >= 0 for level in config.unet.attention_levels),
         "at least 0 each"),
        ("unet.head_channels", config.unet.head_channels >= 1, "at least 1"),
        ("unet.dropout", 0 <= config.unet.dropout < 1, "in [0, 1)"),
        ("unet.linear_channels", (config.unet.linear_channels or 0) >= 0, "at least 0"),
        ("diffusion.steps", config.diffusion.steps >= 1, "at least 1"),
        ("diffusion.sampling_steps", config.diffusion.sampling_steps >= 1, "at least 1"),
        ("diffusion.evaluations", 0 <= config.diffusion.evaluations
         <= config.diffusion.sampling_steps, "between 0 and diffusion.sampling_steps"),
        ("diffusion.evaluations", config.diffusion.eta == 0 or config.diffusion.evaluations == 0,
         "0 with diffusion.eta above 0"),
        ("diffusion.eta", 0 <= config.diffusion.eta <= 1, "in [0, 1]"),
        ("uniad.width", config.uniad.width >= 2 and config.uniad.width % 2 == 0, "even"),
        ("uniad.heads", config.uniad.heads >= 1 and config.uniad.width % config.uniad.heads == 0,
         "a divisor of uniad.width"),
        ("uniad.feedforward", config.uniad.feedforward >= 1, "at least 1"),
        ("uniad.encoder_layers", config.uniad.encoder_layers >= 0, "at least 0"),
        ("uniad.decoder_layers", config.uniad.decoder_layers >= 1, "at least 1"),
        ("uniad.dropout", 0 <= config.uniad.dropout < 1, "in [0, 1)"),
        ("uniad.neighbourhood", config.uniad.neighbourhood == 0
         or (config.uniad.neighbourhood > 0 and config.uniad.neighbourhood % 2 == 1), "odd, or 0"),
        ("uniad.jitter", config.uniad.jitter >= 0, "at least 0"),
        ("train.epochs", config.train.epochs >= 1, "at least 1"),
        ("train.min_steps", config.train.min_steps >= 0, "at least 0"),
        ("train.keep_epochs", all(epoch >= 1 for epoch in config.train.keep_epochs),
         "at least 1 each"),
        ("train.stop_epoch", config.train.stop_epoch >= 0, "at least 0"),
        ("train.batch_size", config.train.batch_size >= 1, "at least 1"),
        ("train.micro_batch", config.train.micro_batch >= 0, "at least 0"),
        ("train.learning_rate", config.train.learning_rate > 0, "above 0"),
        ("train.ema_decay", 0 <= config.train.ema_decay < 1, "in [0, 1)"),
        ("train.clip_norm", config.train.clip_norm > 0, "above 0"),
        ("score.sigma", config.score.sigma >= 0, "at least 0"),
        ("score.pool", 1 <= config.score.pool <= size, "between 1 and image_size"),
        ("score.standardise_images", config.score.standardise_images >= 2, "at least 2"),
        ("score.top_share", 0 < config.score.top_share <= 1, "in (0, 1]"),
        ("score.batch_size", config.score.batch_size >= 1, "at least 1"),
    ]  # fmt: skip
    for name, value, kind in _choices(config):
        rules.append((name, value in get_args(kind), " or ".join(get_args(kind))))
    for name, good, wanted in rules:
        if not good:
            section, _, option = name.partition(".")
            value = getattr(getattr(config, section), option)
            raise LafiteError(f"The option {name} is {value!r}; it must be {wanted}.")


def _choices(config: LafiteConfig) -> Iterator[tuple[str, Any, Any]]:
    """Every option that is one of a few words: name, value and its ``Literal`` type."""
    for section, kind in SECTIONS.items():
        for option, hint in get_type_hints(kind).items():
            if get_origin(hint) is Literal:
                yield f"{section}.{option}", getattr(getattr(config, section), option), hint


def preset(name: str) -> LafiteConfig:
    """The named presets: ``cpu``, ``paper`` and ``demo``.

    ``cpu`` is the defaults: the same model with a quarter of the channels, for two cores.
    ``paper`` is the paper's scale, for one GPU. ``demo`` is smaller still, for rendered images.
    """
    if name == "cpu":
        return LafiteConfig()
    if name == "paper":
        return LafiteConfig(
            features=FeatureConfig(grid=32),
            unet=UNetConfig(
                base_channels=256, blocks=2, attention_levels=(1, 2, 3), linear_channels=0
            ),
            train=TrainConfig(epochs=1000, min_steps=0, batch_size=64, learning_rate=1e-4),
            score=ScoreConfig(standardise="none", batch_size=48),
        )
    if name == "demo":
        return LafiteConfig(
            features=FeatureConfig(backbone="filterbank", image_size=192, grid=16),
            unet=UNetConfig(
                base_channels=32, multipliers=(1, 2, 3), attention_levels=(2,), linear_channels=64
            ),
            diffusion=DiffusionConfig(sampling_steps=5),
            score=ScoreConfig(standardise="none"),
            train=TrainConfig(epochs=60, min_steps=0, learning_rate=1e-3),
        )
    raise LafiteError(f"There is no preset {name!r}; the presets are cpu, paper and demo.")
