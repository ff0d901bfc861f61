"""A folder of generated files that knows which files it made, so that nothing else in it is ever lost.

The list, with the SHA-256 of every file, is a file of the folder itself. Before anything is written, it names what will
be: whatever an interrupted run leaves is known as generated, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from eventide.ops.files import TEMPORARY_SUFFIX, write_text
from eventide.types import UsageError

SHOWN = 3  # foreign files named in a message


@dataclass(frozen=True)
class OwnedFolder:
    """`folder` with its list of generated files in `list_name`; what lies in the folder `free` is nobody's business."""

    folder: Path
    list_name: str
    kind: str  # first entry of the list, so that it is not mistaken for another file
    free: str

    def open(self, planned: Sequence[str], *, force: bool) -> None:
        """Get ready to write the files `planned` (relative paths); earlier ones that are no longer made are removed.

        Raises:
            UsageError: the folder holds something that was not generated, or was changed since, and not `force`; or
                it is no folder.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError(f"{self.folder} is a file; give a folder for the generated data set")
        known = self.made()
        if not force and (foreign := list(islice(self._foreign(known), SHOWN + 1))):
            names = ", ".join(foreign[:SHOWN]) + (", ..." if len(foreign) > SHOWN else "")
            raise UsageError(
                f"{self.folder} holds files that were not generated, or were changed since: {names}; give another "
                "folder, or --force to replace those in the way (the others stay)"
            )
        for name in known.keys() - set(planned):
            if self._unchanged(name, known[name]):
                self._remove(name)
        self.close(planned, finished=False)

    def close(self, made: Sequence[str], *, finished: bool = True) -> None:
        """Write the list of the files `made`."""
        files = {name: self._digest(name) if finished else "" for name in made}
        write_text(self.folder / self.list_name, json.dumps({"format": self.kind, "files": files}, indent=1) + "\n")

    def made(self) -> dict[str, str]:
        """SHA-256 by relative path of the files on the list; empty text where a file may hold anything."""
        try:
            content = json.loads((self.folder / self.list_name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        if not isinstance(content, dict) or content.get("format") != self.kind:
            return {}
        files = content.get("files")
        return {str(name): str(digest) for name, digest in files.items()} if isinstance(files, dict) else {}

    def _foreign(self, known: dict[str, str]) -> Iterator[str]:
        """Relative paths of what was not generated, or was changed since."""
        if not self.folder.exists():
            return
        for path in sorted(self.folder.iterdir()):
            if path.name == self.free or (path.name == self.list_name and known):
                continue
            inside = sorted(path.rglob("*")) if path.is_dir() and not path.is_symlink() else [path]
            for found in inside:
                name = found.relative_to(self.folder).as_posix()
                if found.is_dir() and not found.is_symlink():
                    continue
                if not self._unchanged(name, known.get(name)) and not self._unfinished(found, known):
                    yield name

    def _unchanged(self, name: str, digest: str | None) -> bool:
        return digest is not None and digest in ("", self._digest(name))

    def _unfinished(self, path: Path, known: dict[str, str]) -> bool:
        """Whether a file is what a writer that was killed has left of one on the list."""
        names = (Path(name).name for name in [*known, self.list_name]) if known else iter(())
        return path.name.endswith(TEMPORARY_SUFFIX) and any(path.name.startswith(f".{name[:40]}.") for name in names)

    def _digest(self, name: str) -> str:
        path = self.folder / name
        if not path.is_file() or path.is_symlink():
            return "missing"
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _remove(self, name: str) -> None:
        """Remove a generated file, and its folder if that was the last one."""
        path = self.folder / name
        path.unlink(missing_ok=True)
        if path.parent != self.folder:
            with suppress(OSError):  # other files are in it
                path.parent.rmdir()
