"""The MVTec folder layout: categories, normals to train on, test images and their masks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pseudoval.data.files import sha256_file, sha256_json
from pseudoval.errors import UserError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
CLUTTER = ("thumbs.db", "desktop.ini")
"""Files that desktops leave behind; hidden files are passed over as well."""


@dataclass(frozen=True, kw_only=True)
class ImageItem:
    """One image that is scored.

    Attributes:
        id: POSIX path relative to the root, such as ``bottle/test/good/000.png``.
        path: where the file is.
        category: folder name of its category.
        label: 0 normal, 1 anomalous.
        group: id of the normal image underneath; the image's own id for real data.
        mask_path: the mask's file, None where there is none.
        defect: folder name under ``test/``, ``good`` for normals.
    """

    id: str
    path: Path
    category: str
    label: int
    group: str
    mask_path: Path | None
    defect: str

    @cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of the file, which is read once however often this is asked for."""
        return sha256_file(self.path)


def data_sha256(items: Sequence[ImageItem]) -> str:
    """Hash of the names and files of a list of images, in its order."""
    return sha256_json([[item.id, item.sha256] for item in items])


def require_unchanged(files: Iterable[tuple[Path, str]]) -> None:
    """Check that image files are those that the command was started with, wherever this runs.

    Args:
        files: path and SHA-256 of each.

    Raises:
        UserError: naming one that is missing or another.
    """
    for path, sha256 in files:
        if not path.exists() or sha256_file(path) != sha256:
            raise UserError(
                f"{path} is not the image that this command was started with; give every machine "
                "the same files, and repeat the command."
            )


def list_categories(root: Path, wanted: Sequence[str] | None = None) -> list[str]:
    """The categories of a data root, sorted: its sub-folders with ``train/good``.

    Other sub-folders are passed over, unless they have a ``train`` or ``test`` folder: those are
    categories gone wrong. Only names are looked at, never inside a test folder.

    Args:
        wanted: the categories to take; None takes all.

    Raises:
        UserError: the root is missing, empty or itself a category, has no category, lacks a
            wanted one, or a category lacks ``train/good``.
    """
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise UserError(f"The data folder {root} {what}.")
    if (root / "train" / "good").is_dir():
        parent = root.resolve().parent
        raise UserError(
            f"{root} is a single category, not a folder of categories; give its parent {parent} "
            f"(and choose with --categories {root.resolve().name})."
        )
    folders = [path for path in _visible(root) if path.is_dir()]
    found = [path.name for path in folders if (path / "train" / "good").is_dir()]
    for folder in folders:
        begun = any((folder / name).is_dir() for name in ("train", "test"))
        if folder.name not in found and (begun if wanted is None else folder.name in wanted):
            raise UserError(
                f"Category {folder.name!r} has no folder {folder / 'train' / 'good'}; put its "
                "normal images there or leave it out with --categories."
            )
    if not found:
        raise UserError(
            f"There is no category in {root}: expected folders CATEGORY/train/good with normal "
            "images (the MVTec layout)."
        )
    if wanted is None:
        return found
    for name in wanted:
        if name not in found:
            raise UserError(f"There is no category {name!r} in {root}; it has {', '.join(found)}.")
    if not wanted:
        raise UserError(f"No category is named; {root} has {', '.join(found)}.")
    return sorted(set(wanted))


def train_normals(root: Path, category: str) -> list[Path]:
    """The images of ``CATEGORY/train/good``, sorted by name.

    Raises:
        UserError: there is none, or something else than images lies among them.
    """
    folder = root / category / "train" / "good"
    if not folder.is_dir():
        raise UserError(f"Category {category!r} has no folder {folder}.")
    images = _images(folder)
    if not images:
        raise UserError(f"There is no normal image in {folder}; put some there.")
    return images


def test_items(root: Path, category: str) -> list[ImageItem]:
    """The test images of a category: ``good`` first, then every defect folder, sorted.

    The mask of ``test/DEFECT/STEM.*`` is ``ground_truth/DEFECT/STEM_mask.*`` or ``STEM.*``, with
    any image suffix, or None.

    Raises:
        UserError: no test folder, no good images, no defect images, or something else than
            images among them.
    """
    folder = root / category / "test"
    if not folder.is_dir():
        raise UserError(f"Category {category!r} has no test folder {folder}.")
    good = _images(folder / "good") if (folder / "good").is_dir() else []
    if not good:
        raise UserError(f"There is no normal test image in {folder / 'good'}.")
    found: list[tuple[Path, Path | None]] = [(path, None) for path in good]
    for defect in _visible(folder):
        if defect.is_dir() and defect.name != "good":
            masks = _masks(root / category / "ground_truth" / defect.name)
            found += [
                (p, masks.get(f"{p.stem}_mask") or masks.get(p.stem)) for p in _images(defect)
            ]
    if len(found) == len(good):
        raise UserError(f"There is no anomalous test image in {folder}, only 'good' ones.")
    return [image_item(root, path, category, mask) for path, mask in found]


def image_item(root: Path, path: Path, category: str, mask: Path | None = None) -> ImageItem:
    """An image below a data root, normal where its folder is ``good``."""
    name = path.relative_to(root).as_posix()
    defect = path.parent.name
    return ImageItem(
        id=name,
        path=path,
        category=category,
        label=int(defect != "good"),
        group=name,
        mask_path=mask,
        defect=defect,
    )


def _images(folder: Path) -> list[Path]:
    """The image files of a folder by name; anything else but clutter is an error."""
    entries = [p for p in _visible(folder) if p.name.lower() not in CLUTTER]
    for path in entries:
        if path.suffix.lower() not in IMAGE_SUFFIXES or not path.is_file():
            raise UserError(
                f"{path} is not an image file ({', '.join(s[1:] for s in IMAGE_SUFFIXES)}); "
                "move it out of the image folder."
            )
    return entries


def _masks(folder: Path) -> dict[str, Path]:
    """The image files of a ground-truth folder by stem; none if the folder is missing."""
    if not folder.is_dir():
        return {}
    return {p.stem: p for p in _visible(folder) if p.suffix.lower() in IMAGE_SUFFIXES}


def _visible(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.name[0] != "."]
