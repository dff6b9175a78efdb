"""Truncated files: what the container promises against what is there.

libsndfile reads a WAV or Ogg file that was cut short without a word and reports the shorter length, so an
interrupted download would silently become a short recording. FLAC and MP3 keep their full length in the
header and are caught when they are decoded. Formats: RIFF/RF64 WAVE (EBU Tech 3306) and Ogg pages (RFC 3533).
"""

import os
import struct
from pathlib import Path
from typing import BinaryIO

from speechssl.errors import AudioError

# Sizes written by programs that stream to a pipe and never learn the length: ffmpeg, generic tools, SoX.
UNKNOWN_SIZES = {0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000}
MAX_OGG_PAGE = 27 + 255 + 255 * 255  # bytes: header, segment table, segments
TYPICAL_OGG_PAGE = 1 << 13  # read first: most last pages are shorter
END_OF_STREAM = 4  # bit of the Ogg header type


def check_complete(path: str | Path) -> None:
    """Raise AudioError for a missing file, a WAV shorter than its data chunk or an Ogg without its end."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            magic = file.read(12)
            if magic[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and magic[8:] == b"WAVE":
                _check_wave(file, size, path)
            elif magic[:4] == b"OggS":
                _check_ogg(file, size, path)
    except FileNotFoundError as error:
        raise AudioError(f"{path} does not exist; expected an audio file") from error
    except OSError as error:
        raise AudioError(f"{path} cannot be opened ({error.strerror or error})") from error


def _check_wave(file: BinaryIO, size: int, path: str | Path) -> None:
    file.seek(0)
    order = ">" if file.read(4) == b"RIFX" else "<"
    long_data_size = None  # RF64 keeps 64-bit sizes in a chunk of their own
    position = 12
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack(f"{order}4sI", file.read(8))
        if name == b"ds64":
            long_data_size = struct.unpack(f"{order}8xQ", file.read(16))[0] if position + 24 <= size else None
        if name == b"data":
            unknown = length in UNKNOWN_SIZES
            promised = length if long_data_size is None or not unknown else long_data_size
            found = size - position - 8
            if found < promised and not (unknown and long_data_size is None):
                raise AudioError(
                    f"{path} is truncated: {found} of {promised} bytes of audio; fetch or convert it again"
                )
            return
        position += 8 + length + length % 2
    raise AudioError(f"{path} is truncated: a WAV file without its data chunk; fetch or convert it again")


def _check_ogg(file: BinaryIO, size: int, path: str | Path) -> None:
    page = -1
    for reach in (TYPICAL_OGG_PAGE, MAX_OGG_PAGE):
        file.seek(max(0, size - reach))
        tail = file.read()
        page = tail.rfind(b"OggS\0")
        if page >= 0:
            break
    end = _page_end(tail, page) if page >= 0 else None
    if end is not None and end <= len(tail) and tail[page + 5] & END_OF_STREAM:
        return
    raise AudioError(f"{path} is truncated: an Ogg file without its end-of-stream page; fetch or convert it again")


def _page_end(data: bytes, page: int) -> int | None:
    """Return where an Ogg page ends, or None when its header is cut off."""
    if page + 27 > len(data):
        return None
    segments = data[page + 26]
    table = data[page + 27 : page + 27 + segments]
    return page + 27 + segments + sum(table) if len(table) == segments else None
