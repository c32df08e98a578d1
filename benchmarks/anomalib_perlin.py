"""Perlin anomalies exactly as anomalib makes them, for comparison; run by a Python that has it.

    python benchmarks/anomalib_perlin.py REQUEST.json

REQUEST names ``out``, ``seed`` and, by category, the files of the normal images. anomalib's
``make_synthetic_dataset`` is called once a category, with every option as it stands except the
share of the normals to augment, which is 1 and not one half: the normals are needed whole beside
every set, and half as many anomalies would be a handicap. It draws from the global random states,
which are set before each call. ``out`` then holds ``set.json``: for each anomaly its file and the
normal underneath, whose place in the shuffled table is found by drawing once more from the same
state, and checked on the pixels outside the mask.
"""

import json
import os
import random
import shutil
import sys
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from pseudoval.data.files import read_json, write_json

SAME = 2
"""Grey levels by which pixels outside the mask may differ: anomalib rounds down when it writes."""


def make(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Write the anomalies of every category; rows of ``image``, ``mask``, ``background``.

    Raises:
        RuntimeError: an anomaly does not lie on the normal that it was taken to lie on.
    """
    import torch
    from anomalib.data.utils.synthetic import make_synthetic_dataset

    out = Path(request["out"])
    rows = []
    for category, normals in sorted(request["normals"].items()):
        images, masks = out / category / "image", out / category / "mask"
        for folder in (images, masks):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        table = pd.DataFrame(
            {"image_path": normals, "label": "normal", "label_index": 0, "mask_path": "",
             "split": "val"}
        )  # fmt: skip
        seed = (request["seed"] * 1_000_003 + zlib.crc32(category.encode())) % 2**32
        np.random.seed(seed)  # noqa: NPY002
        order = table.sample(len(table)).image_path.tolist()
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        torch.manual_seed(seed)
        made = make_synthetic_dataset(table, images, masks, anomalous_ratio=1.0)
        for path, mask, background in zip(made.image_path, made.mask_path, order, strict=True):
            check(Path(path), Path(mask), Path(background))
            rows.append({"category": category, "image": path, "mask": mask} | {"on": background})
    return rows


def check(image: Path, mask: Path, background: Path) -> None:
    """Compare an anomaly with the normal underneath, outside the mask."""
    made, below = cv2.imread(str(image)).astype(int), cv2.imread(str(background)).astype(int)
    outside = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE) == 0
    if outside.any() and np.abs(made - below)[outside].max() > SAME:
        raise RuntimeError(f"{image} does not lie on {background}")


def main() -> None:
    request = read_json(Path(sys.argv[1]), "The request")
    out = Path(request["out"]).resolve()
    request["out"] = str(out)
    # It looks for textures in ./datasets/dtd, and finds none in a folder of its own.
    os.chdir(out)
    rows = make(request)
    for row in rows:
        for name in ("image", "mask"):
            row[name] = Path(row[name]).relative_to(out).as_posix()
    write_json(out / "set.json", {"request": request, "images": rows})
    print(json.dumps({"anomalies": len(rows)}))


if __name__ == "__main__":
    main()
