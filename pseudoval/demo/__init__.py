"""The embedded demo dataset: `render_dataset` writes an MVTec-layout folder of woven fabric, turned
flanges and assembled circuit boards. Surfaces are painted, lit and photographed; normal images vary
in pose, light and grain, and the defects of the test split are made in the scene (tint, relief,
geometry), never pasted from other images.
"""

from pseudoval.demo.render import (
    CATEGORIES,
    DEFECT_KINDS,
    DefectImage,
    render_dataset,
    render_defect,
    render_normal,
)

__all__ = [
    "CATEGORIES",
    "DEFECT_KINDS",
    "DefectImage",
    "render_dataset",
    "render_defect",
    "render_normal",
]
