"""PNG files, of 8 and 16 bits per channel, as arrays: with the standard library and NumPy alone.

Pillow reads colours of 16 bits as 8; here a value comes in and goes out as it is in the file.

References
----------
Portable Network Graphics (PNG) Specification, third edition, https://www.w3.org/TR/png-3/
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["Picture", "read", "write"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
_CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
_TYPES = {1: GREY, 2: GREY_ALPHA, 3: RGB, 4: RGB_ALPHA}
_DEPTHS = {GREY: (1, 2, 4, 8, 16), PALETTE: (1, 2, 4, 8)}
# what the numbers mean as colours, and how large a pixel is: filtering changes neither
_KEPT = (b"cHRM", b"gAMA", b"iCCP", b"sRGB", b"cICP", b"pHYs")
# first column, first row, steps between them: of the seven passes of an interlaced file
_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
_BAND = 1024  # rows undone together: enough to be fast, few enough to be small
_WHOLE = ((0, 0, 1, 1),)


@dataclass(frozen=True)
class Picture:
    """What `read` found.

    Attributes
    ----------
    pixels : uint8 or uint16 array of shape (H, W, C)
        C: 1 grey, 2 grey and alpha, 3 red, green and blue, 4 with alpha. Fewer than 8 bits are
        spread to 0..255, a palette and a transparent colour are resolved.
    chunks : tuple of (bytes, bytes)
        Name and content of what says how to show the pixels (gamma, colour profile, size), for
        `write`.
    """

    pixels: np.ndarray
    chunks: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def colours(self) -> np.ndarray:
        """The pixels without alpha, (H, W, 1) or (H, W, 3): a view."""
        return self.pixels[..., : (self.pixels.shape[-1] - 1) // 2 * 2 + 1]

    @property
    def alpha(self) -> np.ndarray:
        """The alpha channel, (H, W, 1), or (H, W, 0) where there is none: a view."""
        return self.pixels[..., (self.pixels.shape[-1] - 1) // 2 * 2 + 1 :]


def read(path: str | os.PathLike) -> Picture:
    """Read a PNG file.

    Parameters
    ----------
    path : path

    Returns
    -------
    Picture

    Raises
    ------
    FileNotFoundError
    ValueError
        When it is not a PNG file, or a damaged one.
    """
    data = Path(path).read_bytes()
    try:
        return _decoded(data)
    except (struct.error, zlib.error, IndexError) as error:
        raise ValueError(f"{path}: a damaged PNG file ({error})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def write(path: str | os.PathLike, pixels: np.ndarray, chunks=()) -> Path:
    """Write a PNG file beside `path` and rename it: it is whole or not there.

    Parameters
    ----------
    path : path
    pixels : uint8 or uint16 array of shape (H, W) or (H, W, C)
        C as in `Picture`.
    chunks : sequence of (bytes, bytes)
        Those of a `Picture`.

    Returns
    -------
    Path

    Raises
    ------
    TypeError, ValueError
        When `pixels` is not such an array.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write(f"{folder}/a.png", np.array([[0, 65535]], np.uint16))
    ...     print(read(path).pixels.ravel())
    [    0 65535]
    """
    pixels = np.asarray(pixels)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise TypeError(f"pixels: expected uint8 or uint16, got {pixels.dtype}")
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[-1] not in _TYPES or 0 in pixels.shape:
        raise ValueError(
            f"pixels: expected shape (H, W) or (H, W, C), C from 1 to 4, got {pixels.shape}"
        )
    path = Path(path)
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as file:
            file.writelines(_encoded(pixels, chunks))
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return path


# --- reading -------------------------------------------------------------------------------------


def _decoded(data: bytes) -> Picture:
    if data[: len(SIGNATURE)] != SIGNATURE:
        raise ValueError("not a PNG file")
    chunks = list(_chunks(data))
    if chunks[0][0] != b"IHDR" or chunks[-1][0] != b"IEND":
        raise ValueError("a damaged PNG file (it does not begin with IHDR and end with IEND)")
    width, height, depth, kind, compression, filtering, interlaced = struct.unpack(
        ">IIBBBBB", chunks[0][1]
    )
    if (
        not (width and height)
        or kind not in _CHANNELS
        or depth not in _DEPTHS.get(kind, (8, 16))
        or compression
        or filtering
        or interlaced > 1
    ):
        raise ValueError(f"a damaged PNG file (header {chunks[0][1].hex()})")
    found = dict(chunks)
    packed = b"".join(body for name, body in chunks if name == b"IDAT")
    passes = _ADAM7 if interlaced else _WHOLE
    pixels = _unpacked(packed, height, width, _CHANNELS[kind], depth, passes)
    return Picture(
        _resolved(pixels, kind, depth, found.get(b"PLTE"), found.get(b"tRNS")),
        tuple((name, body) for name, body in chunks if name in _KEPT),
    )


def _chunks(data: bytes):
    """(name, content) of each part of the file, up to its end."""
    at, name = len(SIGNATURE), b""
    while name != b"IEND":
        length, name = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        (check,) = struct.unpack_from(">I", data, at + 8 + length)
        if zlib.crc32(body, zlib.crc32(name)) != check:
            raise ValueError(f"a damaged PNG file (the checksum of {name!r} is wrong)")
        yield name, body
        at += 12 + length


def _unpacked(packed, height, width, channels, depth, passes) -> np.ndarray:
    """(H, W, C) numbers as they stand in the file."""
    sizes = []
    for x, y, dx, dy in passes:
        rows, columns = -(-(height - y) // dy), -(-(width - x) // dx)
        sizes.append((rows, columns, 1 + (columns * channels * depth + 7) // 8))
    # an empty pass has no bytes, not even those that name its rows' filters
    total = sum(rows * length for rows, columns, length in sizes if rows > 0 and columns > 0)
    reader = zlib.decompressobj()
    raw = reader.decompress(packed, total)  # no more, whatever the file would unfold to
    if len(raw) != total:
        raise ValueError(f"a damaged PNG file ({len(raw)} bytes of pixels, expected {total})")
    pixels = np.empty((height, width, channels), np.uint16 if depth == 16 else np.uint8)
    at = 0
    for (x, y, dx, dy), (rows, columns, length) in zip(passes, sizes, strict=True):
        if rows > 0 and columns > 0:
            part = np.frombuffer(raw, np.uint8, rows * length, at).reshape(rows, length)
            at += rows * length
            lines = _unfiltered(part, max(1, channels * depth // 8))
            pixels[y::dy, x::dx] = _numbers(lines, columns * channels, depth).reshape(
                rows, columns, channels
            )
    return pixels


def _unfiltered(lines: np.ndarray, size: int) -> np.ndarray:
    """Undo the filters: each byte is its difference from a guess made of those before it."""
    kinds, rest = lines[:, 0], lines[:, 1:]
    if kinds.max() > 4:
        raise ValueError(f"a damaged PNG file (filter {kinds.max()})")
    if not kinds.any():
        return rest
    height, width = rest.shape[0], rest.shape[1] // size
    pixels = np.empty((height, width, size), np.uint8)
    above = np.zeros((width, size), np.uint8)
    for first in range(0, height, _BAND):
        band = slice(first, min(first + _BAND, height))
        _unfilter_band(kinds[band], rest[band].reshape(-1, width, size), above, pixels[band], size)
        above = pixels[band.stop - 1]
    return pixels.reshape(height, width * size)


def _unfilter_band(kinds, differences, above, pixels, size):
    """Rows of differences to rows of pixels.

    A guess is made of the pixels to the left (a), above (b) and above that (c). So the pixels of a
    diagonal, x + y = const, do not need each other: each step does one, by each row's own filter.
    """
    height, width = pixels.shape[:2]
    # pixel (y, x) stands at [x + y + 2, y + 1]: diagonals are rows, with zeros around the image
    work = np.zeros((height + width + 1, height + 1, size), np.int16)
    line, row, byte = work.strides
    slanted = np.lib.stride_tricks.as_strided(
        work[2:, 1:], (height, width, size), (line + row, line, byte)
    )
    slanted[...] = differences
    work[1 : width + 1, 0] = above
    by_left, by_above, by_mean, by_paeth = (
        (kinds == kind).astype(np.int16)[:, None] for kind in (1, 2, 3, 4)
    )
    has_mean, has_paeth = by_mean.any(), by_paeth.any()
    for step in range(height + width - 1):
        first, last = max(0, step - width + 1), min(height, step + 1)
        rows = slice(first, last)
        here = work[step + 2, first + 1 : last + 1]
        a = work[step + 1, first + 1 : last + 1]
        b, c = work[step + 1, rows], work[step, rows]
        guess = a * by_left[rows] + b * by_above[rows]
        if has_mean:
            guess += ((a + b) >> 1) * by_mean[rows]
        if has_paeth:
            from_a, from_b, from_c = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
            b_or_c = np.where(from_b <= from_c, b, c)
            nearest = np.where((from_a <= from_b) & (from_a <= from_c), a, b_or_c)
            guess += nearest * by_paeth[rows]
        here += guess
        here &= 255
    pixels[...] = slanted


def _numbers(lines: np.ndarray, count: int, depth: int) -> np.ndarray:
    """(rows, count) numbers from the bytes of each row."""
    if depth == 16:
        return np.ascontiguousarray(lines).view(">u2")
    if depth == 8:
        return lines
    shifts = np.arange(8 - depth, -1, -depth, dtype=np.uint8)
    parts = (lines[..., None] >> shifts) & (2**depth - 1)
    return parts.reshape(len(lines), -1)[:, :count]


def _resolved(pixels, kind, depth, palette, transparent) -> np.ndarray:
    """Colours from a palette, alpha from a transparent colour, 8 bits from fewer."""
    if kind == PALETTE:
        colours = np.frombuffer(palette or b"", np.uint8)
        colours = colours[: len(colours) // 3 * 3].reshape(-1, 3)
        if pixels.max() >= len(colours):
            raise ValueError("a damaged PNG file (a pixel has no colour in the palette)")
        if transparent is not None:
            alpha = np.full((len(colours), 1), 255, np.uint8)
            given = np.frombuffer(transparent, np.uint8)[: len(colours)]
            alpha[: len(given), 0] = given
            colours = np.concatenate([colours, alpha], axis=1)
        return colours[pixels[..., 0]]
    full = 65535 if depth == 16 else 255
    shown = pixels * np.uint8(255 // (2**depth - 1)) if depth < 8 else pixels
    if transparent is None or kind not in (GREY, RGB):
        return shown
    key = struct.unpack(f">{_CHANNELS[kind]}H", transparent)
    opaque = (pixels != np.array(key)).any(axis=-1, keepdims=True)
    return np.concatenate([shown, (opaque * full).astype(shown.dtype)], axis=-1)


# --- writing -------------------------------------------------------------------------------------


def _encoded(pixels: np.ndarray, chunks):
    """The parts of the file."""
    height, width, channels = pixels.shape
    depth = 8 * pixels.itemsize
    header = struct.pack(">IIBBBBB", width, height, depth, _TYPES[channels], 0, 0, 0)
    ordered = pixels.astype(">u2" if depth == 16 else np.uint8, order="C")
    lines = ordered.view(np.uint8).reshape(height, -1)
    yield SIGNATURE
    yield from _chunk(b"IHDR", header)
    for name, body in chunks:
        yield from _chunk(name, body)
    yield from _chunk(b"IDAT", zlib.compress(_filtered(lines, channels * depth // 8), 6))
    yield from _chunk(b"IEND", b"")


def _chunk(name: bytes, body: bytes):
    yield struct.pack(">I4s", len(body), name)
    yield body
    yield struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))


def _filtered(lines: np.ndarray, size: int) -> bytes:
    """Each row less the one above or its left neighbours, whichever leaves the smaller numbers."""
    left, above = lines.copy(), lines.copy()
    left[:, size:] -= lines[:, :-size]
    above[1:] -= lines[:-1]
    both = np.stack([left, above])
    # bytes stand for differences from -128 to 127
    sizes = np.abs(both.view(np.int8).astype(np.int16)).sum(axis=2)
    best = sizes.argmin(axis=0)
    filtered = np.empty((lines.shape[0], 1 + lines.shape[1]), np.uint8)
    filtered[:, 0] = best + 1
    filtered[:, 1:] = both[best, np.arange(lines.shape[0])]
    return filtered.tobytes()
