"""Finished recordings on disk while others are still being predicted: `OUTPUT.parts/`.

Every process appends to a file of its own, one recording per line, in one write for each batch. A process killed at any
moment leaves whole lines and perhaps a torn last one, which is passed over. Beside the parts lie `settings.json` (what
the results depend on), `lock`, and what the processes say of themselves (`eventide.engine.predict_together`).
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from eventide.engine.weights import config_differences, shorten
from eventide.evaluation.results import Columns, records_of
from eventide.ops.files import TEMPORARY_SUFFIX, write_text
from eventide.ops.locks import lock
from eventide.types import Detections, EventideError, UsageError

FORMAT = "eventide-parts-1"
DIGESTS = "digests"  # in the settings: digest by name of a file
PART_ENDING = ".jsonl"
_DETECTIONS = b', "detections": '  # cannot occur inside a JSON text before it: a quote there would be escaped


class PartLine(NamedTuple):
    """A finished recording in a part file."""

    recording: str
    written: float  # seconds since 1970
    stamp: list[Any]  # what its result depends on beside the settings: vectors, rate, duration
    detections: int  # how many
    columns: Columns
    path: Path
    begin: int  # where its records lie, as JSON
    size: int

    def text(self, file: BinaryIO) -> bytes:
        """Its records as JSON."""
        file.seek(self.begin)
        return file.read(self.size)


def part_line(recording: str, found: Detections, stamp: list[Any], written: float) -> bytes:
    """The line of a finished recording.

    Raises:
        EventideError: a detection is not a finite number.
    """
    records = json.dumps(records_of(recording, found)).encode()
    head = {
        "recording": recording,
        "written": written,
        "stamp": stamp,
        "count": len(found),
        "columns": Columns.of(found),
        "crc32": zlib.crc32(records),
    }
    return json.dumps(head)[:-1].encode() + _DETECTIONS + records + b"}\n"


def read_part(path: Path) -> Iterator[PartLine]:
    """The finished recordings of a part file; lines that are torn or damaged are passed over."""
    begin = 0
    with path.open("rb") as file:
        for line in file:
            head, mark, rest = line.partition(_DETECTIONS)
            records = rest.removesuffix(b"}\n")
            if mark and len(records) < len(rest):
                with suppress(ValueError, KeyError, TypeError):
                    values = json.loads(head + b"}")
                    points, has_std, levels = values["columns"]
                    if values["crc32"] == zlib.crc32(records):
                        yield PartLine(
                            values["recording"],
                            float(values["written"]),
                            values["stamp"],
                            values["count"],
                            Columns(points, has_std, tuple(levels)),
                            path,
                            begin + len(head) + len(mark),
                            len(records),
                        )
            begin += len(line)


class PartFolder:
    """The folder beside a results file."""

    def __init__(self, output: Path) -> None:
        self.path = output.with_name(f"{output.name}.parts")

    @property
    def settings(self) -> Path:
        return self.path / "settings.json"

    @property
    def merging(self) -> Path:
        """Made when all recordings are finished, before the results are written from the parts."""
        return self.path / "merging"

    def parts(self) -> list[Path]:
        return sorted(self.path.glob(f"*{PART_ENDING}"))

    def finished(self, attempt: str = "") -> dict[str, PartLine]:
        """The last line of each recording; those of the parts of `attempt` come before all others."""

        def is_own(path: Path) -> bool:
            return path.name.startswith(f"{attempt}-")

        found: dict[str, PartLine] = {}
        for path in sorted(self.parts(), key=is_own):
            for line in read_part(path):
                known = found.get(line.recording)
                if known is None or known.written <= line.written or is_own(path) > is_own(known.path):
                    found[line.recording] = line
        return found

    def is_of_merge(self, path: Path) -> bool:
        """Whether `path` was written by an earlier process that had finished all and then ended in the middle."""
        try:
            return self.merging.stat().st_mtime <= path.stat().st_mtime
        except OSError:
            return False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Within the context no other process is; the folder is made where it is missing."""
        while True:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                file = (self.path / "lock").open("a")
            except OSError as error:
                raise UsageError(f"{self.path}: cannot be written: {error.strerror or error}") from None
            with file:
                lock(file)
                if _is_still(file, self.path / "lock"):  # else the folder was removed while this process waited
                    yield
                    return

    def open(self, settings: Mapping[str, Any], *, discard: bool) -> None:
        """Make sure that the parts are of these settings; with `discard` those of others are removed.

        Raises:
            UsageError: they are of others, or the folder holds something else; the message names what differs.
        """
        wanted = json.loads(json.dumps({"format": FORMAT, **settings}))
        stored = self._stored()
        if stored is None and any(self._is_foreign(path) for path in self.path.iterdir()):
            stored = self._stored()  # again: without locks, another process may just have written it
            if stored is None:
                raise UsageError(
                    f"{self.path} holds something else; finished recordings are kept there: remove it, or give another "
                    "name for the results"
                )
        differing = [] if stored is None else _differences(stored, dict(wanted))
        if differing and not discard:
            raise UsageError(
                f"{self.path} holds recordings that were finished with other settings: {shorten(differing)}; go on "
                "with the same settings, or use --force to begin anew"
            )
        if differing:
            for path in self.path.iterdir():
                if path.name != "lock":
                    path.unlink()
        if differing or stored is None:
            write_text(self.settings, json.dumps(wanted, indent=1) + "\n")

    def _is_foreign(self, path: Path) -> bool:
        return path.name != "lock" and path.suffix != TEMPORARY_SUFFIX

    def _stored(self) -> dict[str, Any] | None:
        try:
            content = json.loads(self.settings.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            raise EventideError(f"{self.settings} is damaged; remove the folder to begin anew") from None
        return content if isinstance(content, dict) else {}

    def remove(self) -> None:
        """Remove the folder: at once under another name, then bit by bit."""
        gone = self.path.with_name(f".{self.path.name}.gone")
        shutil.rmtree(gone, ignore_errors=True)  # left by a process that was killed here
        with suppress(FileNotFoundError):
            os.replace(self.path, gone)
        shutil.rmtree(gone, ignore_errors=True)


class PartWriter:
    """Appends finished recordings to a new part file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None

    def write(self, lines: Iterable[bytes]) -> None:
        """Append whole lines; when this returns, a kill of the process loses none of them."""
        if self._file is None:  # a process without work leaves no file
            self._file = self.path.open("xb", buffering=0)
        rest = memoryview(b"".join(lines))
        while rest:  # a write is short where the disk is full: the next one says so
            rest = rest[self._file.write(rest) or 0 :]

    def close(self) -> None:
        """Flush to the disk, so that other machines see it, too."""
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None


def _differences(stored: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What differs between two settings, a phrase for each; nobody wants to read digests."""
    old, new = stored.pop(DIGESTS, None) or {}, wanted.pop(DIGESTS, None) or {}
    other = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return [f"the content of {name} is another" for name in other] + config_differences(stored, wanted)


def _is_still(file: Any, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False
