"""Features of images from where they are cheapest: at hand, on disk, or the backbone."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from torch import Tensor

from lafite_core.feature_cache import FeatureCache, pixel_digest
from lafite_core.features import FeatureExtractor
from lafite_core.parallel import on_each_core


class FeatureSource:
    """Unstandardised features of any image, the same bits wherever they come from.

    Args:
        cache: None keeps nothing on disk.
    """

    def __init__(self, extractor: FeatureExtractor, cache: FeatureCache | None = None) -> None:
        self.extractor = extractor
        self.cache = cache
        self._at_hand: dict[str, Tensor] = {}

    def __call__(self, image: np.ndarray) -> Tensor:
        """uint8 RGB ``[H, W, 3]`` to ``[C, grid, grid]`` float32 on the CPU.

        What was not in the cache is added to it.

        Raises:
            LafiteError: the disk with the cache is full.
        """
        if not self._at_hand and self.cache is None:
            return self.extractor.extract(image)
        return self._find(image)[1]

    def prepare(self, images: Sequence[np.ndarray]) -> None:
        """Extract a block of images side by side, and have them at hand until the next block."""
        self._at_hand = dict(on_each_core(self._find, images, device=self.extractor.device))

    def stream(self, images: Iterable[np.ndarray]) -> Iterator[Tensor]:
        """Features of each image, in order, found or extracted on all cores.

        Images are taken as they are needed, so that reading them goes on beside the network.
        """
        return on_each_core(self, images, device=self.extractor.device)

    def _find(self, image: np.ndarray) -> tuple[str, Tensor]:
        """Digest and features."""
        digest = pixel_digest(image)
        found = self._at_hand.get(digest)
        if found is None and self.cache is not None:
            found = self.cache.find(digest)
        if found is None:
            found = self.extractor.extract(image)
            if self.cache is not None:
                self.cache.add(digest, found)
        return digest, found
