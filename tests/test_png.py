"""PNG files: what a plain encoder, written from the specification, and Pillow put into them."""

import re
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastconv import png

# width, height, first column, first row, steps: the specification's table of Adam7
PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
          (0, 1, 1, 2)]  # fmt: skip
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
KINDS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8),
         (4, 8), (4, 16), (6, 8), (6, 16)]  # fmt: skip


def guess(kind, a, b, c):
    if kind == 4:
        p = a + b - c
        return min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
    return (0, a, b, (a + b) // 2)[kind]


def encoded_pass(pixels, depth, filters):
    """Bytes of one image (H, W, C), row by row and byte by byte."""
    height = pixels.shape[0]
    size = max(1, pixels.shape[2] * depth // 8)
    before, out = None, bytearray()
    for y in range(height):
        bits = "".join(f"{value:0{depth}b}" for value in pixels[y].ravel())
        row = [int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8)]
        before = before or [0] * len(row)
        kind = filters[y % len(filters)]
        out.append(kind)
        for i, value in enumerate(row):
            a = row[i - size] if i >= size else 0
            c = before[i - size] if i >= size else 0
            out.append((value - guess(kind, a, before[i], c)) % 256)
        before = row
    return bytes(out)


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def encoded(pixels, kind, depth, filters=(0,), interlaced=False, chunks=(), pieces=1):
    height, width, _ = pixels.shape
    passes = PASSES if interlaced else [(0, 0, 1, 1)]
    parts = [pixels[y::dy, x::dx] for x, y, dx, dy in passes]
    raw = b"".join(encoded_pass(part, depth, filters) for part in parts if part.size)
    packed = zlib.compress(raw)
    step = -(-len(packed) // pieces)
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced)
    body = b"".join(chunk(name, content) for name, content in chunks)
    data = b"".join(chunk(b"IDAT", packed[i : i + step]) for i in range(0, len(packed), step))
    return png.SIGNATURE + chunk(b"IHDR", header) + body + data + chunk(b"IEND", b"")


PALETTE = np.random.default_rng(0).integers(0, 256, (256, 3)).astype(np.uint8)


def expected(pixels, kind, depth):
    if kind == 3:
        return PALETTE[pixels[..., 0]]
    dtype = np.uint16 if depth == 16 else np.uint8
    return (pixels * (255 // (2**depth - 1)) if depth < 8 else pixels).astype(dtype)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("png") / "a.png"


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("kind", "depth"), KINDS)
@settings(max_examples=15)
@given(data=st.data())
def test_reads_what_the_specification_says(kind, depth, interlaced, place, data):
    height, width = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 11)))
    filters = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=5))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    pixels = rng.integers(0, 2**depth, (height, width, CHANNELS[kind]))
    chunks = [(b"PLTE", PALETTE.tobytes())] if kind == 3 else []
    place.write_bytes(encoded(pixels, kind, depth, filters, interlaced, chunks, pieces=2))
    found = png.read(place).pixels
    np.testing.assert_array_equal(found, expected(pixels, kind, depth), strict=True)


def test_bands_of_rows(place, rng, monkeypatch):
    monkeypatch.setattr(png, "_BAND", 4)
    pixels = rng.integers(0, 256, (11, 3, 3))
    place.write_bytes(encoded(pixels, 2, 8, filters=(4, 3, 2, 1, 4)))
    np.testing.assert_array_equal(png.read(place).pixels, pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
def test_there_and_back(channels, dtype, tmp_path, rng):
    shape = (13, 7) if channels is None else (13, 7, channels)
    pixels = rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    chunks = ((b"gAMA", struct.pack(">I", 45455)), (b"pHYs", bytes(9)))
    path = png.write(tmp_path / "a.png", np.asfortranarray(pixels[::-1]), chunks)
    found = png.read(path)
    np.testing.assert_array_equal(
        found.pixels, pixels[::-1].reshape(13, 7, channels or 1), strict=True
    )
    assert found.chunks == chunks
    assert found.colours.shape[-1] == (1 if channels in (None, 1, 2) else 3)
    assert found.alpha.shape[-1] == (1 if channels in (2, 4) else 0)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_transparent_colours(place):
    grey = np.array([[[0], [1], [3]]])
    place.write_bytes(encoded(grey, 0, 2, chunks=[(b"tRNS", struct.pack(">H", 1))]))
    assert png.read(place).pixels.tolist() == [[[0, 255], [85, 0], [255, 255]]]
    colour = np.array([[[1, 2, 60000], [1, 2, 3]]])
    key = [(b"tRNS", struct.pack(">3H", 1, 2, 60000))]
    place.write_bytes(encoded(colour, 2, 16, chunks=key))
    assert png.read(place).pixels[..., 3].tolist() == [[0, 65535]]
    chunks = [(b"PLTE", bytes([9, 8, 7, 1, 2, 3])), (b"tRNS", bytes([100]))]
    place.write_bytes(encoded(np.array([[[0], [1]]]), 3, 1, chunks=chunks))
    assert png.read(place).pixels.tolist() == [[[9, 8, 7, 100], [1, 2, 3, 255]]]


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(
    ("kind", "depth"), [k for k in KINDS if k not in ((2, 16), (4, 16), (6, 16))]
)
def test_pillow_reads_the_encoder_of_this_test(kind, depth, interlaced, place, rng):
    """Where Pillow keeps every bit: what the tests above compare with is right."""
    image = pytest.importorskip("PIL.Image")
    pixels = rng.integers(0, 2**depth, (9, 10, CHANNELS[kind]))
    chunks = [(b"PLTE", PALETTE.tobytes())] if kind == 3 else []
    place.write_bytes(encoded(pixels, kind, depth, (0, 1, 2, 3, 4), interlaced, chunks))
    with image.open(place) as picture:
        mode = {0: "I" if depth == 16 else "L", 2: "RGB", 3: "RGB", 4: "LA", 6: "RGBA"}[kind]
        found = np.asarray(picture.convert(mode)).reshape(9, 10, -1)
    np.testing.assert_array_equal(found, expected(pixels, kind, depth))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pillow_reads_what_is_written(channels, tmp_path, rng):
    image = pytest.importorskip("PIL.Image")
    pixels = rng.integers(0, 256, (20, 30, channels), np.uint8)
    with image.open(png.write(tmp_path / "a.png", pixels)) as picture:
        np.testing.assert_array_equal(np.asarray(picture).reshape(pixels.shape), pixels)
    # of 16 bits it keeps the upper eight
    with image.open(png.write(tmp_path / "b.png", pixels * np.uint16(257))) as picture:
        found = np.asarray(picture.convert({1: "I", 2: "LA"}.get(channels, picture.mode)))
    found = found.reshape(pixels.shape)
    np.testing.assert_array_equal(found // (257 if channels == 1 else 1), pixels)


def test_smooth_pictures_become_small(tmp_path):
    y, x = np.mgrid[:200, :300]
    pixels = np.stack([x % 256, y, (x + y) // 2], -1).astype(np.uint8)
    assert png.write(tmp_path / "a.png", pixels).stat().st_size < pixels.size / 50


WHOLE = encoded(np.arange(12).reshape(3, 4, 1), 0, 8, filters=(1,))
IDAT = WHOLE.index(b"IDAT")


def with_header(**changed):
    fields = {"width": 4, "height": 3, "depth": 8, "kind": 0, "compression": 0, "filtering": 0,
              "interlaced": 0} | changed  # fmt: skip
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *fields.values()))
    return png.SIGNATURE + header + WHOLE[IDAT - 4 :]


DAMAGED = {
    "not a PNG": (b"GIF89a", "not a PNG file"),
    "empty": (b"", "not a PNG file"),
    "cut off": (WHOLE[:-20], r"a damaged PNG file \(.*"),
    "nothing after the signature": (png.SIGNATURE, r"a damaged PNG file \(.*"),
    "a bit": (
        WHOLE[: IDAT + 8] + bytes([WHOLE[IDAT + 8] ^ 1]) + WHOLE[IDAT + 9 :],
        r"a damaged PNG file \(the checksum of b'IDAT' is wrong\)",
    ),
    "no header": (
        png.SIGNATURE + chunk(b"gAMA", bytes(4)) + chunk(b"IEND", b""),
        r"a damaged PNG file \(it does not begin with IHDR.*",
    ),
    "no pixels": (with_header(height=0), r"a damaged PNG file \(header .*"),
    "depth": (with_header(depth=3), r"a damaged PNG file \(header .*"),
    "kind": (with_header(kind=5), r"a damaged PNG file \(header .*"),
    "colours of 4 bits": (with_header(kind=2, depth=4), r"a damaged PNG file \(header .*"),
    "interlacing": (with_header(interlaced=2), r"a damaged PNG file \(header .*"),
    # nothing that large is made on its word
    "size": (
        with_header(width=2**31 - 1, height=2**31 - 1),
        r"a damaged PNG file \(15 bytes of pixels, expected \d{19}\)",
    ),
    "filter": (
        encoded(np.zeros((1, 1, 1), int), 0, 8).replace(
            chunk(b"IDAT", zlib.compress(bytes(2))), chunk(b"IDAT", zlib.compress(bytes([5, 0])))
        ),
        r"a damaged PNG file \(filter 5\)",
    ),
    "palette": (
        encoded(np.ones((1, 1, 1), int), 3, 8, chunks=[(b"PLTE", bytes(3))]),
        r"a damaged PNG file \(a pixel has no colour in the palette\)",
    ),
    "key": (
        encoded(np.ones((1, 1, 1), int), 0, 8, chunks=[(b"tRNS", bytes(1))]),
        r"a damaged PNG file \(unpack requires.*",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files(name, place):
    data, message = DAMAGED[name]
    place.write_bytes(data)
    with pytest.raises(ValueError) as caught:
        png.read(place)
    assert re.fullmatch(f"{re.escape(str(place))}: {message}", str(caught.value))


@pytest.mark.parametrize(
    ("pixels", "kind", "message"),
    [
        (np.zeros((2, 2)), TypeError, "pixels: expected uint8 or uint16, got float64"),
        (np.zeros((2, 2, 5), np.uint8), ValueError, r"pixels: expected shape .* got \(2, 2, 5\)"),
        (np.zeros((0, 2), np.uint8), ValueError, r"pixels: expected shape .* got \(0, 2, 1\)"),
    ],
)
def test_what_cannot_be_written(pixels, kind, message, tmp_path):
    with pytest.raises(kind, match=message):
        png.write(tmp_path / "a.png", pixels)
    assert not list(tmp_path.iterdir())
