"""How a fragment meets the background: hard, feathered, alpha matte, or Poisson."""

import cv2
import numpy as np
from scipy import fft, sparse
from scipy.sparse import linalg

from pseudoval.generators.masks import squared_distance

NEIGHBOURS = ((0, 1), (0, -1), (1, 0), (-1, 0))
FEATHER_PX = 3.0
"""Width of a feathered edge in pixels."""


def blend(
    background: np.ndarray,
    top: int,
    left: int,
    shape: np.ndarray,
    patch: np.ndarray,
    *,
    blending: str,
    opacity: float,
) -> np.ndarray:
    """What a fragment looks like on the background.

    - ``hard``: the fragment, weighted with ``opacity``.
    - ``feather``: the weight rises from the edge to ``opacity`` over ``FEATHER_PX`` pixels.
    - ``alpha``: it rises from the edge to the pixel farthest from it.
    - ``poisson``: the gradients of the fragment, with the background's values along its edge
      (Perez et al. 2003, eq. 7), weighted with ``opacity``.

    Args:
        background: uint8 ``[H, W, 3]``.
        top, left: where the fragment's window lies in it.
        shape: bool ``[h, w]``, the fragment's pixels in the window.
        patch: uint8 ``[h, w, 3]``.

    Returns:
        uint8 ``[h, w, 3]``; what lies outside ``shape`` has no meaning.
    """
    if blending == "hard" and opacity == 1:
        return patch
    h, w = shape.shape
    below = background[top : top + h, left : left + w].astype(np.float32)
    above = patch.astype(np.float32)
    weight: np.ndarray | float = opacity
    if blending == "poisson":
        above = above + membrane(background, top, left, shape, patch)
    elif blending != "hard":
        depth = np.sqrt(squared_distance(np.pad(shape, 1).astype(np.uint8)))[1:-1, 1:-1]
        width = FEATHER_PX + 1 if blending == "feather" else float(depth.max())
        weight = (opacity * np.minimum(depth / width, 1)).astype(np.float32)[..., None]
    mixed = below + weight * (above - below)
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def membrane(
    background: np.ndarray, top: int, left: int, shape: np.ndarray, patch: np.ndarray
) -> np.ndarray:
    """The harmonic correction that takes a patch to the background's values along its edge.

    It is 0 in the discrete Laplacian inside ``shape``, and background minus patch on the pixels
    about it; where the shape meets the border of the image nothing is prescribed. Solved exactly
    on the shape's own pixels, so that thin shapes are served too: by a sparse factorisation, or for
    a rectangle by sine transforms, which take a hundredth of the time where it is large.

    Returns:
        float32 ``[h, w, 3]``, 0 outside ``shape``.
    """
    # The ring of pixels about the window holds the edge's values.
    inside = np.pad(shape, 1)
    height, width = background.shape[:2]
    h, w = shape.shape
    rows = np.arange(top - 1, top + h + 1)
    columns = np.arange(left - 1, left + w + 1)
    exists = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))[None]
    around = background[np.clip(rows, 0, height - 1)[:, None], np.clip(columns, 0, width - 1)]
    # Beside the window the patch goes on as at its border.
    wide = cv2.copyMakeBorder(patch, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    difference = around.astype(np.float64) - wide
    if shape.all() and exists.all():
        return _membrane_of_rectangle(difference)
    number = np.full(inside.shape, -1, np.int32)
    y, x = np.nonzero(inside)
    count = len(y)
    number[y, x] = np.arange(count)
    diagonal = np.zeros(count)
    right = np.zeros((count, 3))
    links_from, links_to = [], []
    for dy, dx in NEIGHBOURS:
        there = exists[y + dy, x + dx]
        diagonal += there
        neighbour = number[y + dy, x + dx]
        edge = there & (neighbour < 0)
        right[edge] += difference[y[edge] + dy, x[edge] + dx]
        linked = np.flatnonzero(neighbour >= 0)
        links_from.append(linked)
        links_to.append(neighbour[linked])
    result = np.zeros((h, w, 3), np.float32)
    if not right.any():  # nothing to correct, or a shape without any edge: the whole image
        return result
    every = np.arange(count)
    row, column = np.concatenate([*links_from, every]), np.concatenate([*links_to, every])
    values = np.concatenate([np.full(len(row) - count, -1.0), diagonal])
    matrix = sparse.csc_array((values, (row, column)), shape=(count, count))
    # Symmetric and diagonally dominant: no pivoting is needed, which keeps the factor thin.
    factor = linalg.splu(
        matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    result[y - 1, x - 1] = factor.solve(right)
    return result


def _membrane_of_rectangle(difference: np.ndarray) -> np.ndarray:
    """The correction inside a rectangle from its values on the ring about it.

    Args:
        difference: float64 ``[h + 2, w + 2, 3]``, of which the outermost pixels count.
    """
    h, w = difference.shape[0] - 2, difference.shape[1] - 2
    right = np.zeros((h, w, 3))
    right[0] += difference[0, 1:-1]
    right[-1] += difference[-1, 1:-1]
    right[:, 0] += difference[1:-1, 0]
    right[:, -1] += difference[1:-1, -1]
    # Eigenvalues of the Laplacian with fixed values about it; sines are its eigenvectors.
    along_y = 2 - 2 * np.cos(np.pi * np.arange(1, h + 1) / (h + 1))
    along_x = 2 - 2 * np.cos(np.pi * np.arange(1, w + 1) / (w + 1))
    spectrum = fft.dstn(right, type=1, axes=(0, 1))
    spectrum /= (along_y[:, None] + along_x[None, :])[..., None]
    return fft.idstn(spectrum, type=1, axes=(0, 1)).astype(np.float32)
