import io
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from distclust.contracts import Array
from distclust.data import image_folder, load, points
from distclust.errors import DataError, ParameterError

RNG = np.random.default_rng(0)


def picture(height: int = 8, width: int = 8, channels: int = 0, dtype: Any = np.uint8) -> Array:
    shape = (height, width, channels) if channels else (height, width)
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def write(folder: Path, name: str, content: Array | Image.Image | bytes, **options: Any) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        (content if isinstance(content, Image.Image) else Image.fromarray(content)).save(path, **options)
    return path


def png(content: Array) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(content).save(sink, "PNG")
    return sink.getvalue()


@pytest.mark.parametrize("suffix", ["png", "PNG", "bmp", "tif", "pgm"])
def test_images_of_one_size_come_as_they_are(tmp_path: Path, suffix: str) -> None:
    arrays = [picture(9, 7) for _ in range(3)]
    for index, array in enumerate(arrays):
        write(tmp_path, f"{index}.{suffix}", array)
    data = load(tmp_path)
    np.testing.assert_array_equal(data.x, np.stack(arrays)[:, None])
    assert (data.x.dtype, data.value_range, data.y, data.n_clusters) == (np.uint8, (0, 255), None, None)
    assert data.names == tuple(f"{index}.{suffix}" for index in range(3))
    assert (data.name, data.remarks) == (tmp_path.name, ())


def test_order_is_that_of_the_sorted_paths_whatever_the_folder_says(tmp_path: Path) -> None:
    names = ["b/2.png", "a/x/1.png", "10.png", "b/10.png", "a.png", "é.png"]
    arrays = {name: picture() for name in names}
    for name in names:
        write(tmp_path, name, arrays[name])
    data = load(str(tmp_path) + "/")
    assert data.names == ("10.png", "a.png", "a/x/1.png", "b/10.png", "b/2.png", "é.png")
    for name, x in zip(data.names, data.x, strict=True):
        np.testing.assert_array_equal(x[0], arrays[name])


def test_colour(tmp_path: Path) -> None:
    colour, grey = picture(channels=3), picture()
    write(tmp_path, "a.png", colour)
    data = load(tmp_path)
    np.testing.assert_array_equal(data.x, colour.transpose(2, 0, 1)[None])
    write(tmp_path, "b.png", grey)
    mixed = load(tmp_path)
    np.testing.assert_array_equal(mixed.x[1], np.stack([grey] * 3))
    assert "1 of 2 images are stored as grey; all are read as RGB" in mixed.remarks[0]
    only_grey = load(tmp_path, mode="grey")
    np.testing.assert_array_equal(only_grey.x[1, 0], grey)
    np.testing.assert_array_equal(only_grey.x[0, 0], np.asarray(Image.fromarray(colour).convert("L")))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_mode_is_read(tmp_path: Path, mode: str) -> None:
    source = Image.fromarray(picture(channels=3))
    image = Image.fromarray(picture(dtype=np.uint16)) if mode == "I;16" else source.convert(mode)
    suffix = "tif" if mode in ("CMYK", "YCbCr", "PA", "LA") else "png"
    write(tmp_path, f"a.{suffix}", image)
    for wanted, channels in (("grey", 1), ("rgb", 3)):
        data = load(tmp_path, mode=wanted)
        assert data.x.shape == (1, channels, 8, 8)
        assert data.x.dtype == (np.float32 if mode == "I;16" and wanted == "grey" else np.uint8)


def test_transparent_images_lie_on_white(tmp_path: Path) -> None:
    rgba = picture(channels=4)
    rgba[..., 3] = np.where(np.arange(8) < 4, 0, 255)
    write(tmp_path, "a.png", rgba)
    x = load(tmp_path).x[0]
    assert (x[:, :, :4] == 255).all()
    np.testing.assert_array_equal(x[:, :, 4:], rgba[:, 4:, :3].transpose(2, 0, 1))
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putdata([0, 1])
    write(tmp_path, "a.png", palette, transparency=b"\x00\xff")
    assert load(tmp_path).x[0, :, 0].T.tolist() == [[255, 255, 255], [40, 50, 60]]


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    deep, flat = picture(dtype=np.uint16), picture()
    write(tmp_path, "a.png", deep)
    write(tmp_path, "b.png", flat)
    write(tmp_path, "c.tif", deep)
    write(tmp_path, "d.pgm", deep)
    data = load(tmp_path)
    assert (data.x.dtype, data.value_range) == (np.float32, (0, 65535))
    for index, expected in enumerate([deep, flat * 257.0, deep, deep]):
        np.testing.assert_array_equal(data.x[index, 0], expected)
    assert "16 bits" in data.remarks[0]
    np.testing.assert_array_equal(load(tmp_path, mode="rgb").x[0, 0], np.rint(deep / 257))
    assert load(tmp_path, size=5).x.max() <= 65535


def test_first_picture_of_several(tmp_path: Path) -> None:
    first, second = (Image.fromarray(picture()) for _ in range(2))
    for name in ("a.gif", "b.tif", "c.png", "d.webp"):
        write(tmp_path, name, first, save_all=True, append_images=[second], lossless=True)
    x = load(tmp_path, mode="grey").x
    for row in x:
        np.testing.assert_array_equal(row[0], np.asarray(first))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_as_exif_says(tmp_path: Path, orientation: int) -> None:
    blocks = np.zeros((16, 16), np.uint8)
    blocks[:8, 8:], blocks[8:, :8] = 100, 200
    turns = {
        1: blocks,
        2: blocks[:, ::-1],
        3: blocks[::-1, ::-1],
        4: blocks[::-1],
        5: blocks.T,
        6: np.rot90(blocks, -1),
        7: blocks[::-1, ::-1].T,
        8: np.rot90(blocks),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    write(tmp_path, "a.jpg", blocks, exif=exif, quality=100)
    np.testing.assert_allclose(load(tmp_path).x[0, 0], turns[orientation], atol=4)


def test_size_is_chosen_by_the_stated_rule(tmp_path: Path) -> None:
    write(tmp_path, "a.png", picture(128, 40))
    assert load(tmp_path).x.shape == (1, 1, 128, 40)
    write(tmp_path, "a.png", picture(129, 40))
    assert load(tmp_path).x.shape == (1, 1, 32, 32)
    write(tmp_path, "b.png", picture(64, 80))
    write(tmp_path, "c.png", picture(100, 65))
    data = load(tmp_path)
    assert data.x.shape == (3, 1, 64, 64)
    assert data.remarks == (
        "the images are 64 to 129 pixels high and 40 to 80 wide; each is resized to cover 64 x 64 pixels and cropped "
        "to its centre (dataset.size)",
    )
    assert load(tmp_path, size=20).x.shape == (3, 1, 20, 20)
    assert load(tmp_path, size=[20, 30]).x.shape == (3, 1, 20, 30)


def test_resizing_covers_and_crops_to_the_centre(tmp_path: Path) -> None:
    wide = np.zeros((32, 96), np.uint8)
    wide[:, 32:64] = 255
    write(tmp_path, "a.png", wide)
    assert (load(tmp_path, size=32).x == 255).all()
    write(tmp_path, "a.png", wide.T)
    assert (load(tmp_path, size=32).x == 255).all()
    write(tmp_path, "a.jpg", Image.fromarray(np.full((900, 1200), 90, np.uint8)))
    (tmp_path / "a.png").unlink()
    assert abs(load(tmp_path).x.astype(int) - 90).max() < 3


def test_folders_are_classes_only_when_asked_for(tmp_path: Path) -> None:
    for name in ("cat/1.png", "cat/2023/2.png", "dog/1.png", "top.png"):
        write(tmp_path, name, picture())
    assert load(tmp_path).y is None
    data = load(tmp_path, labels="folders")
    assert data.y is not None
    assert data.names == ("cat/1.png", "cat/2023/2.png", "dog/1.png", "top.png")
    assert (data.y.tolist(), data.n_clusters) == ([0, 0, 1, -1], 2)
    drawn = load(tmp_path, labels="folders", n_samples=1)
    assert drawn.n_clusters == 2
    with pytest.raises(DataError, match="needs images in sub-folders"):
        load(tmp_path / "dog", labels="folders")
    for name in ("train/cat/1.png", "test/cat/1.png"):
        write(tmp_path / "both", name, picture())
    with pytest.raises(ParameterError, match="test, train, are no classes"):
        load(tmp_path / "both", labels="folders")


def test_names_stay_with_their_points(tmp_path: Path) -> None:
    arrays = {f"{c}/{i:02d}.png": picture() for c in range(3) for i in range(10)}
    for name, array in arrays.items():
        write(tmp_path, name, array)
    for options in ({"n_samples": 7}, {"resample": 0.5}, {"labels": "folders", "imbalance": "imb3"}):
        data = load(tmp_path, **options)
        assert data.names is not None
        assert len(data.names) == len(data.x) < 30
        assert list(data.names) == sorted(data.names)
        for name, x in zip(data.names, data.x, strict=True):
            np.testing.assert_array_equal(x[0], arrays[name])
    assert load(tmp_path, reference="shuffled").names is None


def test_no_more_files_are_decoded_than_are_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(20):
        write(tmp_path, f"{index:02d}.png", picture())
    (tmp_path / "03.png").write_bytes(png(picture())[:-30])
    calls: list[Path] = []
    framed = image_folder.framed
    monkeypatch.setattr(image_folder, "framed", lambda path, frame: calls.append(path) or framed(path, frame))
    few, more = (load(tmp_path, n_samples=n, broken="skip", seed=1).names for n in (5, 9))
    assert few is not None
    assert more is not None
    assert len(calls) <= 16
    assert set(few) < set(more)
    with pytest.raises(ParameterError, match="n_samples is 20, and there are 19 points"):
        load(tmp_path, n_samples=20, broken="skip")


def test_hidden_files_links_and_other_files(tmp_path: Path) -> None:
    write(tmp_path, "a/1.png", picture())
    for name in (".hidden/2.png", "a/.3.png", "__MACOSX/4.png"):
        write(tmp_path, name, picture())
    (tmp_path / "a" / "notes.txt").write_text("x")
    (tmp_path / "a" / "Thumbs.db").write_text("x")
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    write(outside, "5.png", picture())
    os.symlink(outside, tmp_path / "b")
    os.symlink(tmp_path, tmp_path / "a" / "round")  # a circle
    data = load(tmp_path)
    assert data.names == ("a/1.png", "b/5.png")
    assert data.remarks == ("no images, left alone: 2 other files, such as a/Thumbs.db",)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    write(tmp_path, "a.png", picture())
    try:
        os.rename(tmp_path / "a.png", os.fsencode(tmp_path) + b"/\xff.png")
    except OSError:
        pytest.skip("this filesystem takes names in UTF-8 alone")
    assert load(tmp_path).names == (r"\xff.png",)


def bomb() -> bytes:
    """A png that says it has 4 billion pixels."""
    whole = bytearray(png(picture()))
    whole[16:24] = (65536).to_bytes(4, "big") * 2
    whole[29:33] = zlib.crc32(bytes(whole[12:29])).to_bytes(4, "big")
    return bytes(whole)


BROKEN = {
    "empty.png": (b"", "no image of a known kind"),
    "text.jpg": (b"no image at all", "no image of a known kind"),
    "truncated.png": (png(picture(40, 40))[:-400], "truncated"),
    "bomb.png": (bomb(), "decompression bomb"),
    "float.tif": (np.ones((8, 8), np.float32), "floating-point values"),
    "wide.tif": (np.full((8, 8), -70000, np.int32), "beyond 16 bits"),
    "script.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image of a known kind"),
}


def test_broken_files_are_refused_together_or_left_out(tmp_path: Path) -> None:
    write(tmp_path, "fine/1.png", picture())
    for name, (content, _) in BROKEN.items():
        write(tmp_path, name, content)
    (tmp_path / "folder.png").mkdir()
    os.symlink(tmp_path / "nowhere.png", tmp_path / "link.png")
    with pytest.raises(
        DataError, match=r"8 of 9 image files in .* cannot be read: .*and 3 more\. Mend or delete them, or leave"
    ):
        load(tmp_path)
    data = load(tmp_path, broken="skip", mode="grey", size=8)
    assert data.names == ("fine/1.png",)
    assert data.remarks[0].startswith("8 image files cannot be read, left out: ")


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_why_a_file_is_broken(tmp_path: Path, name: str) -> None:
    content, why = BROKEN[name]
    write(tmp_path, name, content)
    for broken in ("refuse", "skip"):
        with pytest.raises(DataError, match=f"1 of 1 image files .*{name} .*{why}"):
            load(tmp_path, broken=broken)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match=r"pipe\.png \(no file is there\)"):
        load(tmp_path)


def test_folders_without_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a folder without images .*no other file either"):
        load(tmp_path)
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"such as a\.csv.*give window="):
        load(tmp_path)


def test_images_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.png", picture())
    monkeypatch.setattr(points, "_memory", lambda: 100_000.0)
    with pytest.raises(DataError, match="more than half of this machine's"):
        load(tmp_path, size=1000)


@pytest.mark.parametrize(
    "options",
    [
        {"size": 0},
        {"size": [1, 2, 3]},
        {"size": 2.5},
        {"mode": "RGB"},
        {"broken": True},
        {"labels": True},
        {"window": 0},
    ],
)
def test_options_that_cannot_be_used(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(options))):
        load(tmp_path, **options)


def test_decoders_are_there() -> None:
    assert features.check("jpg")
    assert features.check("webp")
    assert features.check("zlib")
