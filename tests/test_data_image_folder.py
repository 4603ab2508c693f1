import io
import os
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, features

from distclust.contracts import Array
from distclust.data import image_files, image_folder, load, points
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
    np.testing.assert_array_equal(load(tmp_path, mode="gray").x, only_grey.x)
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


def several(folder: Path, name: str, pages: list[Image.Image]) -> None:
    write(folder, name, pages[0], save_all=True, append_images=pages[1:], lossless=True)


def test_first_page_of_several_is_read_and_their_number_said(tmp_path: Path) -> None:
    pages = [Image.fromarray(picture()) for _ in range(3)]
    for name in ("a.gif", "b.tif", "c.png", "d.webp"):
        several(tmp_path, name, pages)
    write(tmp_path, "e.png", picture())
    data = load(tmp_path, mode="grey")
    assert data.names == ("a.gif", "b.tif", "c.png", "d.webp", "e.png")
    for row in data.x[:4]:
        np.testing.assert_array_equal(row[0], np.asarray(pages[0]))
    assert sum("4 files have several pages, 12 in all" in remark for remark in data.remarks) == 1


def test_a_point_a_page(tmp_path: Path) -> None:
    pages = [Image.fromarray(picture()) for _ in range(12)]
    for name in ("a.gif", "b.tif", "c.png", "d.webp"):
        several(tmp_path, name, pages)
    write(tmp_path, "e.png", picture())
    data = load(tmp_path, mode="grey", pages="all")
    assert data.names == (
        *(f"{file}#{page}" for file in ("a.gif", "b.tif", "c.png", "d.webp") for page in range(12)),
        "e.png",
    )
    for index, row in enumerate(data.x[:-1]):
        np.testing.assert_array_equal(row[0], np.asarray(pages[index % 12]))
    assert data.origins is not None
    assert [f"{file}#{page}" for file, page in zip(data.origins["file"], data.origins["page"], strict=True)][:48] == [
        *data.names[:48]
    ]
    drawn = load(tmp_path, mode="grey", pages="all", n_samples=9, seed=3)
    assert drawn.names is not None
    for name, row in zip(drawn.names, drawn.x, strict=True):
        np.testing.assert_array_equal(row, data.x[data.names.index(name)])


def test_pages_of_a_tiff_have_sizes_and_modes_of_their_own(tmp_path: Path) -> None:
    pages = [Image.fromarray(picture(8, 8)), Image.fromarray(picture(20, 30, 3))]
    several(tmp_path, "a.tif", pages)
    assert load(tmp_path).x.shape == (1, 1, 8, 8)
    data = load(tmp_path, pages="all", size=(20, 30))
    assert data.x.shape == (2, 3, 20, 30)
    np.testing.assert_array_equal(data.x[1], np.asarray(pages[1]).transpose(2, 0, 1))


def test_a_page_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    several(tmp_path, "a.gif", [Image.fromarray(picture(40, 40)) for _ in range(3)])
    path = tmp_path / "a.gif"
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(DataError, match=r"1 of 3 image files .* a\.gif#2 \(image file is truncated"):
        load(tmp_path, pages="all")
    assert load(tmp_path, pages="all", broken="skip").names == ("a.gif#0", "a.gif#1")


@pytest.mark.parametrize(
    ("suffix", "options"),
    [("avif", {"quality": 100}), ("jp2", {}), ("tga", {}), ("jfif", {"format": "JPEG", "quality": 100})],
)
def test_more_kinds_of_images(tmp_path: Path, suffix: str, options: dict[str, Any]) -> None:
    ramp = np.linspace(0, 255, 32 * 32).reshape(32, 32).astype(np.uint8)
    write(tmp_path, f"a.{suffix.upper()}", ramp, **options)
    np.testing.assert_allclose(load(tmp_path, mode="grey").x[0, 0], ramp, atol=6)


def test_heic(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    ramp = np.linspace(0, 255, 32 * 32).reshape(32, 32).astype(np.uint8)
    write(tmp_path, "a.HEIC", ramp, quality=100)
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.HEIC").read_bytes())
    data = load(tmp_path, mode="grey")
    np.testing.assert_allclose(data.x[:, 0], np.stack([ramp, ramp]), atol=4)
    assert any("b.jpg (HEIF)" in remark for remark in data.remarks)


def test_pictures_that_cannot_be_read_are_counted_by_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "_decoders", lambda: ("JPEG", "PNG", "TIFF"))
    head = b"\0\0\0\x1cftypheic" + b"\0" * 40
    for name in ("a.heic", "b/b.HEIC", "c.avif", "d.cr2", "e.nef", "f.svg", "g.mov", "h.psd", "i.dcm", "j.jxl"):
        write(tmp_path, name, head)
    wanted = [
        "2 .heic",
        "pip install 'distclust[heif]'",
        "1 .avif",
        "1 .cr2, 1 .nef",
        "1 .svg",
        "1 .mov",
        "1 .psd",
        "1 .dcm",
        "1 .jxl",
    ]
    with pytest.raises(DataError) as refused:
        load(tmp_path)
    assert [text for text in wanted if text not in str(refused.value)] == []
    write(tmp_path, "z.png", picture())
    data = load(tmp_path)
    assert [text for text in wanted if text not in data.remarks[0]] == []
    write(tmp_path, "z.png", head)
    with pytest.raises(DataError, match=r"z\.png \(HEIF, which cannot be read here: pip install 'distclust\[heif\]'"):
        load(tmp_path)


def test_content_tells_where_the_suffix_does_not(tmp_path: Path) -> None:
    array = picture()
    for name in ("1234", "b.jpg", "c.dat", "d.jpg~"):
        write(tmp_path, name, png(array))
    write(tmp_path, "text", b"no image")
    write(tmp_path, "z.png", picture())
    os.mkfifo(tmp_path / "pipe")
    data = load(tmp_path)
    assert data.names == ("1234", "b.jpg", "z.png")
    np.testing.assert_array_equal(data.x[1, 0], array)
    said = " / ".join(data.remarks)
    assert all(
        text in said for text in ("c.dat, d.jpg~", "b.jpg (PNG)", "holds an image, read as such: 1234", "such as pipe")
    )


def test_degenerate_images_are_named(tmp_path: Path) -> None:
    array = picture(40, 40)
    write(tmp_path, "blank.png", np.full((40, 40), 7, np.uint8))
    write(tmp_path, "long.png", picture(10, 400))
    write(tmp_path, "dots.png", picture(2, 3))
    write(tmp_path, "same.png", array)
    write(tmp_path, "same2.bmp", array)
    write(tmp_path, "z.png", picture(40, 40))
    said = " / ".join(load(tmp_path).remarks)
    assert "enlarged more than 8 times: dots.png" in said
    assert "1 image is of one single color: blank.png" in said
    assert "1 image loses more than half" in said
    assert "long and narrow: long.png" in said
    assert "same2.bmp (as same.png)" in said
    assert "z.png" not in said


def test_sixteen_bits_by_choice(tmp_path: Path) -> None:
    deep, flat = picture(dtype=np.uint16), picture()
    write(tmp_path, "a.png", deep)
    write(tmp_path, "b.png", flat)
    eight = load(tmp_path, depth=8)
    assert (eight.x.dtype, eight.value_range) == (np.uint8, (0, 255))
    np.testing.assert_array_equal(eight.x[:, 0], np.stack([np.rint(deep / 257), flat]))
    (tmp_path / "a.png").unlink()
    np.testing.assert_array_equal(load(tmp_path, depth=16).x[0, 0], flat * np.float32(257))
    write(tmp_path, "a.png", picture(channels=3))
    with pytest.raises(ParameterError, match="depth=16"):
        load(tmp_path, depth=16)


def test_modes_come_out_right(tmp_path: Path) -> None:
    """Values of one color each, as the formats define them."""
    half = Image.new("LA", (4, 4), (0, 127))
    ink = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    bits = Image.new("1", (4, 4), 1)
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    for name, image in {"a.png": half, "b.tif": ink, "c.jpg": ink, "d.png": bits, "e.gif": palette}.items():
        write(tmp_path, name, image)
    x = load(tmp_path, mode="rgb").x[:, :, 0, 0]
    np.testing.assert_allclose(x, [[128] * 3, [255, 0, 0], [255, 0, 0], [255] * 3, [200, 100, 50]], atol=3)


@pytest.mark.parametrize("suffix", ["tif", "webp", "png", "avif"])
def test_other_kinds_stand_upright_too(tmp_path: Path, suffix: str) -> None:
    blocks = np.zeros((16, 32), np.uint8)
    blocks[:8, 16:], blocks[8:, :16] = 100, 200
    exif = Image.Exif()
    exif[0x0112] = 6
    write(tmp_path, f"a.{suffix}", Image.fromarray(blocks).convert("RGB"), exif=exif, quality=100, lossless=True)
    data = load(tmp_path, mode="grey")
    assert data.x.shape == (1, 1, 32, 16)
    np.testing.assert_allclose(data.x[0, 0], np.rot90(blocks, -1), atol=6)


def test_images_are_decoded_by_several_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(6):
        write(tmp_path, f"{index}.png", picture())
    together, framed = threading.Barrier(3, timeout=60), image_files.framed

    def waiting(*given: Any) -> Any:
        together.wait()
        return framed(*given)

    monkeypatch.setattr(image_folder, "available_cpus", lambda: 3)
    monkeypatch.setattr(image_files, "framed", waiting)
    assert len(load(tmp_path).x) == 6


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.lists(st.sampled_from(["png", "jpg", "gif", "broken", "deep"]), min_size=1, max_size=12),
    n_threads=st.integers(2, 5),
    data=st.data(),
)
def test_any_number_of_threads_gives_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    kinds: list[str],
    n_threads: int,
    data: Any,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    for index, kind in enumerate(kinds):
        if kind == "gif":
            several(folder, f"{index}.gif", [Image.fromarray(picture()) for _ in range(3)])
        elif kind == "broken":
            write(folder, f"{index}.png", png(picture(40, 40))[:-400])
        else:
            write(
                folder,
                f"{index}.{'png' if kind == 'deep' else kind}",
                picture(dtype=np.uint16 if kind == "deep" else np.uint8),
            )
    options: dict[str, Any] = {"pages": data.draw(st.sampled_from(["first", "all"])), "broken": "skip", "mode": "grey"}
    n_good = sum(1 if kind != "gif" or options["pages"] == "first" else 3 for kind in kinds if kind != "broken")
    if n_good:
        options["n_samples"] = data.draw(st.sampled_from([None, *range(1, n_good + 1)]))
    seen: list[Any] = []
    for cpus in (1, n_threads):
        monkeypatch.setattr(image_folder, "available_cpus", lambda cpus=cpus: cpus)
        try:
            found = load(folder, **options)
            seen.append((found.x.tobytes(), found.x.shape, found.names, found.remarks))
        except DataError as error:
            seen.append(str(error))
    assert seen[0] == seen[1]
    assert isinstance(seen[0], str) == (n_good == 0)


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
    assert "64 to 129 pixels high and 40 to 80 wide; each is resized to cover 64 x 64 pixels" in data.remarks[0]
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
    framed = image_files.framed
    monkeypatch.setattr(image_files, "framed", lambda path, *rest: calls.append(path) or framed(path, *rest))
    few, more = (load(tmp_path, n_samples=n, broken="skip", seed=1).names for n in (5, 9))
    assert few is not None
    assert more is not None
    assert len(calls) <= 16
    assert set(few) < set(more)
    with pytest.raises(ParameterError, match="n_samples is 20, and there are 19 points"):
        load(tmp_path, n_samples=20, broken="skip")


def test_hidden_and_other_files(tmp_path: Path) -> None:
    write(tmp_path, "a/1.png", picture())
    for name in (".hidden/2.png", "a/.3.png", "a/._1.png", "__MACOSX/4.png", "@eaDir/1.png/SYNOPHOTO_THUMB_XL.jpg"):
        write(tmp_path, name, picture(), format="PNG")
    (tmp_path / "a" / "notes.txt").write_text("x")
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store"):
        (tmp_path / "a" / name).write_text("x")
    data = load(tmp_path)
    assert data.names == ("a/1.png",)
    assert data.remarks == ("no images, left alone: 1 other file, such as a/notes.txt",)


def linked(folder: Path) -> None:
    """Make a folder with links: to an image and a folder within, to an image and a folder without, and in a circle."""
    outside = folder.parent / f"{folder.name}-outside"
    for name in ("a/1.png", ".store/2.png"):
        write(folder, name, picture())
    for name in ("5.png", "below/6.png"):
        write(outside, name, picture())
    for name, target in {
        "3.png": "a/1.png",
        "4.png": ".store/2.png",  # as git-annex does
        "40.png": ".store/2.png",
        "5.png": outside / "5.png",
        "a2": "a",
        "b": outside,
        "a/round": folder,
        "c": outside / "below",
        "up": folder.parent,
    }.items():
        os.symlink(target, folder / name)


def test_links_that_lead_out_are_not_followed_unless_asked(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    linked(folder)
    data = load(folder)
    assert data.names == ("4.png", "a/1.png")
    assert sum("4 links lead out of the folder" in remark for remark in data.remarks) == 1
    assert sum("b, c, up" in remark and "follow" in remark for remark in data.remarks) == 1
    assert sum("3.png, 40.png, a/round, a2" in remark for remark in data.remarks) == 1
    followed = load(folder, links="follow")
    assert followed.names == ("4.png", "5.png", "a/1.png", "b/below/6.png")
    assert not any("lead out" in remark for remark in followed.remarks)


def test_a_folder_of_links_alone_says_so(tmp_path: Path) -> None:
    write(tmp_path, "blobs/abc", png(picture()))
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    os.symlink(tmp_path / "blobs" / "abc", snapshot / "a.png")
    with pytest.raises(DataError, match=r"1 link leads out of the folder.*a\.png.*follow"):
        load(snapshot)
    assert load(snapshot, links="follow").names == ("a.png",)
    os.symlink(snapshot, tmp_path / "other")  # the folder itself may be a link
    assert load(tmp_path / "other", links="follow").names == ("a.png",)


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


def endless() -> bytes:
    """An animated png that says it has two billion pages."""
    sink = io.BytesIO()
    pages = [Image.fromarray(picture()) for _ in range(2)]
    pages[0].save(sink, "PNG", save_all=True, append_images=pages[1:])
    whole = bytearray(sink.getvalue())
    at = whole.index(b"acTL")
    whole[at + 4 : at + 8] = (2**31 - 1).to_bytes(4, "big")
    whole[at + 12 : at + 16] = zlib.crc32(bytes(whole[at : at + 12])).to_bytes(4, "big")
    return bytes(whole)


BROKEN = {
    "endless.png": (endless(), "2,147,483,647 pages"),
    "cut.avif": (b"\0\0\0\x20ftypavif\0\0\0\0avif", "damaged: it begins as AVIF"),
    "empty.png": (b"", "empty: 0 bytes"),
    "dot.gif": (Image.new("L", (1, 1)), "1 x 1 pixel"),
    "lfs.jpg": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7\nsize 12\n", "git lfs pull"),
    "page.jpg": (b"\n<!DOCTYPE html>\n<title>404</title>", "a web page"),
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
        DataError, match=r"13 of 14 image files in .* cannot be read: .*and 8 more\. Repair or delete them, or leave"
    ):
        load(tmp_path)
    data = load(tmp_path, broken="skip", mode="grey", size=8)
    assert data.names == ("fine/1.png",)
    assert data.remarks[0].startswith("13 image files cannot be read, left out: ")


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
    with pytest.raises(DataError, match=r"is a folder without images .*holds no file"):
        load(tmp_path)
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"such as a\.csv.*window="):
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
