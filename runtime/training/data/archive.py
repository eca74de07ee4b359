"""Files of a tar.gz read in memory and within limits: nothing is extracted, and a bomb is found out before it goes off."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from runtime.errors import InvalidDataset

MAX_FILE_BYTES = 2**22
MAX_TOTAL_BYTES = 2**28
"""Of the archive unpacked, headers and skipped files included.  The phone-sensor archive has 2.4e7."""


def read_archive(path: Path, pattern: re.Pattern[str]) -> Iterator[tuple[re.Match[str], bytes]]:
    """Each regular file whose whole name matches, in the archive's order.

    Raises InvalidDataset for what is no tar.gz, a matching file beyond MAX_FILE_BYTES, and more than MAX_TOTAL_BYTES in all.
    """
    try:
        with gzip.open(path) as unpacked, tarfile.open(fileobj=_Limited(unpacked, path), mode="r|") as archive:
            for member in archive:
                match = pattern.fullmatch(member.name)
                if match is None or not member.isreg():
                    continue
                yield match, _content(archive, member)
    except (OSError, EOFError, zlib.error, tarfile.TarError) as exc:
        raise InvalidDataset(f"cannot read the archive {path}: {exc}") from exc


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > MAX_FILE_BYTES:
        raise InvalidDataset(f"{member.name} claims {member.size} bytes, at most {MAX_FILE_BYTES} are read")
    file = archive.extractfile(member)
    if file is None:
        raise InvalidDataset(f"{member.name} is not a file")
    return file.read()


class _Limited(io.RawIOBase):
    """A stream that refuses to give more than MAX_TOTAL_BYTES: tarfile reads some headers whole, whatever size they claim."""

    def __init__(self, stream: gzip.GzipFile, path: Path) -> None:
        self._stream, self._path, self._left = stream, path, MAX_TOTAL_BYTES

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise InvalidDataset(f"{self._path} unpacks to more than {MAX_TOTAL_BYTES} bytes")
        return data
