"""Reading images on one scale, masks, hashes and deterministic PNG."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pseudoval.data.images import pixel_sha256, read_all, read_mask, read_rgb, write_png
from pseudoval.errors import UserError


def ramp(height: int = 4, width: int = 6) -> np.ndarray:
    return np.arange(height * width, dtype=np.uint8).reshape(height, width) * 10


def save(path: Path, array: np.ndarray, mode: str | None = None) -> Path:
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path)
    return path


def test_grey_is_replicated(tmp_path: Path) -> None:
    got = read_rgb(save(tmp_path / "a.png", ramp()))
    assert got.dtype == np.uint8 and got.shape == (4, 6, 3)
    assert (got == ramp()[..., None]).all()
    assert got.flags.c_contiguous and got.flags.writeable


def test_colour_is_rgb_not_bgr(tmp_path: Path) -> None:
    red = np.zeros((3, 5, 3), np.uint8)
    red[..., 0] = 200
    assert (read_rgb(save(tmp_path / "a.png", red)) == red).all()


def test_palette_and_one_bit_are_converted(tmp_path: Path) -> None:
    colours = np.zeros((8, 8, 3), np.uint8)
    colours[:4] = (10, 200, 30)
    path = tmp_path / "p.png"
    Image.fromarray(colours).convert("P", palette=Image.Palette.ADAPTIVE).save(path)
    assert (read_rgb(path) == colours).all()
    bits = np.eye(8, dtype=bool)
    Image.fromarray(bits).save(tmp_path / "b.png")
    assert (read_rgb(tmp_path / "b.png") == (bits * 255)[..., None]).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_ignored(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(ramp()).convert(mode)
    image.putalpha(0)
    image.save(tmp_path / "a.png")
    assert (read_rgb(tmp_path / "a.png") == ramp()[..., None]).all()


def test_cmyk_is_converted(tmp_path: Path) -> None:
    path = save(tmp_path / "c.tif", np.full((4, 4, 3), 90, np.uint8), "CMYK")
    assert np.abs(read_rgb(path).astype(int) - 90).max() <= 1


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_share_one_fixed_scale(tmp_path: Path, suffix: str) -> None:
    wide = np.array([[0, 257, 32896, 65535]], np.uint16)
    got = read_rgb(save(tmp_path / f"a{suffix}", wide))
    assert got[0, :, 0].tolist() == [0, 1, 128, 255]
    # A dark image stays dark: no stretching by its own extremes.
    dark = read_rgb(save(tmp_path / f"b{suffix}", np.array([[0, 514]], np.uint16)))
    assert dark.max() == 2


def test_integers_and_floats(tmp_path: Path) -> None:
    assert read_rgb(save(tmp_path / "i.tif", np.array([[0, 65535]], np.int32))).max() == 255
    unit = np.array([[0.0, 0.5, 1.0]], np.float32)
    assert read_rgb(save(tmp_path / "f.tif", unit))[0, :, 0].tolist() == [0, 128, 255]
    for name, wrong in (
        ("i2.tif", np.array([[-1, 70000]], np.int32)),
        ("f2.tif", np.array([[0, 300]], np.float32)),
        ("f3.tif", np.array([[0, np.nan]], np.float32)),
    ):
        with pytest.raises(UserError, match=name):
            read_rgb(save(tmp_path / name, wrong))


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for suffix in (".png", ".jpg", ".bmp", ".tif", ".webp"):
        whole = save(tmp_path / f"whole{suffix}", noise).read_bytes()
        cut = tmp_path / f"cut{suffix}"
        cut.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(UserError, match=cut.name):
            read_rgb(cut)
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("not an image")
    for name, what in (("empty", "0 bytes"), ("text", "not an image"), ("none", "no image file")):
        with pytest.raises(UserError, match=what) as caught:
            read_rgb(tmp_path / f"{name}.png")
        assert f"{name}.png" in str(caught.value)


def test_masks_take_any_nonzero_value(tmp_path: Path) -> None:
    values = np.array([[0, 1], [128, 255]], np.uint8)
    expected = values > 0
    assert (read_mask(save(tmp_path / "a.png", values), (2, 2)) == expected).all()
    # The fixed 16-bit scale would round a 1 to black; a mask must not.
    assert (read_mask(save(tmp_path / "b.png", values.astype(np.uint16)), (2, 2)) == expected).all()
    Image.fromarray(values).convert("RGBA").save(tmp_path / "c.png")
    assert (read_mask(tmp_path / "c.png", (2, 2)) == expected).all()
    Image.fromarray(expected).save(tmp_path / "d.png")
    got = read_mask(tmp_path / "d.png", (2, 2))
    assert got.dtype == bool and (got == expected).all()


def test_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="3x2 pixels, its image 2x3"):
        read_mask(save(tmp_path / "m.png", np.zeros((2, 3), np.uint8)), (3, 2))


def test_pixel_hash_sees_shape_and_pixels_but_not_the_format(tmp_path: Path) -> None:
    image = read_rgb(save(tmp_path / "a.png", ramp()))
    assert pixel_sha256(image) == pixel_sha256(read_rgb(save(tmp_path / "a.bmp", ramp())))
    assert pixel_sha256(image) != pixel_sha256(image.reshape(6, 4, 3))
    changed = image.copy()
    changed[0, 0, 0] ^= 1
    assert pixel_sha256(image) != pixel_sha256(changed)
    assert pixel_sha256(image[:, ::-1]) == pixel_sha256(image[:, ::-1].copy())


def test_png_is_lossless_and_the_same_every_time(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    for name in ("a", "b"):
        write_png(tmp_path / f"{name}.png", noise)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (read_rgb(tmp_path / "a.png") == noise).all()
    mask = noise[..., 0] > 99
    write_png(tmp_path / "sub" / "m.png", mask)
    assert set(np.unique(np.asarray(Image.open(tmp_path / "sub" / "m.png")))) == {0, 255}
    assert (read_mask(tmp_path / "sub" / "m.png", mask.shape) == mask).all()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png", "sub"]


def test_files_are_read_in_order_and_the_first_bad_one_is_named(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number:02}.png" for number in range(20)]
    for number, path in enumerate(paths):
        Image.new("L", (4, 4), number).save(path)
    assert [int(image[0, 0, 0]) for image in read_all(paths)] == list(range(20))
    paths[7].write_bytes(b"")
    paths[12].write_bytes(b"x")
    with pytest.raises(UserError, match=r"07\.png is empty"):
        read_all(paths)
