"""The peer of ``sweep.py``: every trial scored from the image files, one after another.

This is how a method author would write it: batches of 16 through the backbone and through the
denoiser, faiss for the neighbours, nothing kept from one trial to the next.
"""

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor

from lafite_core.diffusion import cosine_schedule, image_noise
from lafite_core.features import aggregate
from lafite_core.filterbank import gaussian_kernel
from lafite_core.model import LafiteModel
from pseudoval.data.dataset import ImageItem
from pseudoval.data.images import read_mask, read_rgb
from pseudoval.metrics.pixel_metrics import Regions, label_regions, pixel_metrics

BATCH = 16
Part = Callable[[str], Any]
"""Of the name of a part: a context manager that times it."""


class PlainLoop:
    """Scores one configuration at a time.

    Args:
        part: times what is done under it; nothing else is asked of it.
    """

    def __init__(self, model: LafiteModel, items: Sequence[ImageItem], seed: int, part: Part):
        self.model, self.items, self.seed, self.part = model, items, seed, part
        self.config = model.config
        self.index: Any = None
        try:
            import faiss

            faiss.omp_set_num_threads(torch.get_num_threads())
            self.index = faiss.IndexFlatL2(model.bank.vectors.shape[1])
            self.index.add(model.bank.vectors.numpy())
        except ImportError:
            self.vectors = model.bank.vectors.to(model.device)
        self.unet = (
            copy.deepcopy(model.network).to(model.device) if model.network is not None else None
        )
        labels = np.array([item.label for item in items])
        names = np.array([item.category for item in items])
        self.rows = {name: np.flatnonzero(names == name) for name in sorted(set(names.tolist()))}
        self.labels = labels
        self.regions = {name: self._regions(rows) for name, rows in self.rows.items()}

    @torch.inference_mode()
    def trial(self, t: int, k: int) -> tuple[np.ndarray, dict[str, float]]:
        """Scores of every image, and the image AUROC of every category; pixel figures as ours."""
        scores, maps = [], []
        for start in range(0, len(self.items), BATCH):
            found = self._batch([item.path for item in self.items[start : start + BATCH]], t, k)
            scores.append(found[0])
            maps.append(found[1])
        values, drawn = np.concatenate(scores), np.concatenate(maps)
        with self.part("pixel figures"):
            for rows, regions in self.regions.values():
                if regions is not None:
                    pixel_metrics(drawn[rows], regions)
        auroc = {
            name: float(roc_auc_score(self.labels[rows], values[rows]))
            for name, rows in self.rows.items()
        }
        return values, auroc

    def _batch(self, paths: Sequence[Path], t: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        device = self.model.device
        with self.part("decode"):
            images = [read_rgb(path) for path in paths]
        with self.part("features"):
            features = self._features(images)
        with self.part("noise"):
            shape = (1, *features.shape[1:])
            noise = torch.cat([image_noise(shape, image, self.seed) for image in images])
        start = self._edited(features, k) if k else features
        with self.part("arithmetic of the solver"):
            clean = self._denoised(start, noise.to(device), t)
        with self.part("error maps"):
            errors = (features - clean).norm(dim=1)
        with self.part("image scores"):
            maps = self._maps(errors)
            pool = self.config.score.pool
            scores = F.avg_pool2d(maps[:, None], pool, stride=1).amax((1, 2, 3))
            return scores.double().cpu().numpy(), maps.float().cpu().numpy()

    def _features(self, images: Sequence[np.ndarray]) -> Tensor:
        side, device = self.config.features.image_size, self.model.device
        resized = [
            F.interpolate(
                torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255,
                (side, side), mode="bilinear", align_corners=False, antialias=True,
            )
            for image in images
        ]  # fmt: skip
        shape = (1, 3, 1, 1)
        mean, std = (
            torch.tensor(own or declared, device=device).reshape(shape)
            for own, declared in (
                (self.config.features.mean, self.model.backbone.mean),
                (self.config.features.std, self.model.backbone.std),
            )
        )
        stages = self.model.backbone((torch.cat(resized).to(device) - mean) / std)
        joined = aggregate(stages, self.config.features.grid, self.config.features.resize)
        scale = self.model.standardiser
        return (joined - scale.mean.to(device)[:, None, None]) / scale.std.to(device)[:, None, None]

    def _edited(self, features: Tensor, k: int) -> Tensor:
        b, c, h, w = features.shape
        rows = features.permute(0, 2, 3, 1).reshape(-1, c).contiguous()
        with self.part("neighbours"):
            if self.index is not None:
                squared, found = (
                    torch.from_numpy(a).to(features.device)
                    for a in self.index.search(rows.cpu().numpy(), k)
                )
                distance = squared.clamp_min(0).sqrt()
            else:
                distance, found = torch.cdist(rows, self.vectors).topk(k, largest=False)
        with self.part("editing"):
            weights = 1 / distance.clamp_min(1e-12)
            weights = weights / weights.sum(1, keepdim=True)
            members = self.model.bank.vectors[found.cpu()].to(features.device)
            mixed = (members * weights[:, :, None]).sum(1)
        return mixed.reshape(b, h, w, c).permute(0, 3, 1, 2)

    def _denoised(self, start: Tensor, noise: Tensor, t: int) -> Tensor:
        assert self.unet is not None
        alpha_bar = cosine_schedule(self.config.diffusion).float().tolist()
        count = self.config.diffusion.sampling_steps
        steps = [round(t * i / count) for i in range(count, -1, -1)]
        x = alpha_bar[t] ** 0.5 * start + (1 - alpha_bar[t]) ** 0.5 * noise
        for now, then in pairwise(steps):
            if now == then:
                continue
            with self.part("network"):
                epsilon = self.unet(x, torch.full((len(x),), now, device=x.device))
            a, b = alpha_bar[now], alpha_bar[then]
            clean = (x - (1 - a) ** 0.5 * epsilon) / a**0.5
            x = b**0.5 * clean + (1 - b) ** 0.5 * epsilon
        return x

    def _maps(self, errors: Tensor) -> Tensor:
        side = self.config.features.image_size
        maps = F.interpolate(errors[:, None], (side, side), mode="bilinear", align_corners=False)
        kernel = gaussian_kernel(self.config.score.sigma).to(maps)
        half = len(kernel) // 2
        maps = F.conv2d(
            F.pad(maps, (0, 0, half, half), mode="reflect"), kernel[None, None, :, None]
        )
        maps = F.conv2d(F.pad(maps, (half, half, 0, 0), mode="reflect"), kernel[None, None, None])
        return maps[:, 0]

    def _regions(self, rows: np.ndarray) -> tuple[np.ndarray, Regions | None]:
        """Rows with a usable mask, and the regions in them; read once."""
        side = self.config.features.image_size
        usable, masks = [], []
        for row in rows.tolist():
            item = self.items[row]
            small = np.zeros((side, side), dtype=bool)
            if item.label:
                if item.mask_path is None:
                    continue
                mask = read_mask(item.mask_path, read_rgb(item.path).shape[:2])
                places = [((np.arange(side) + 0.5) * n / side).astype(int) for n in mask.shape]
                small = mask[places[0][:, None], places[1][None]]
                if not small.any():
                    continue
            usable.append(row)
            masks.append(small)
        whole = np.stack(masks) if masks else np.zeros((0, side, side), dtype=bool)
        return np.array(usable, dtype=int), label_regions(whole) if whole.any() else None
