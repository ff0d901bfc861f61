"""`eventide predict`, disturbed: `predict_disturbed.py HOW RANK BATCH ARGUMENTS` in place of `eventide ARGUMENTS`.

In the process RANK of the first start, when it is about to write its batch number BATCH, counted from 0:

    kill    SIGKILL ends it
    tear    half of the lines is written, then SIGKILL ends it
    merge   SIGKILL ends it when the results are written, BATCH 0: before the table, 1: before the file, 2: after it
    slow    nothing; every batch of every process takes BATCH milliseconds
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from eventide.cli import main
from eventide.engine import predict_run
from eventide.engine.predict_parts import PartFolder, PartWriter


def end(*arguments: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def disturb(how: str, batch: int) -> None:
    """Put the disturbance in its place."""
    if how == "merge":
        places = ((predict_run, "write_records_csv"), (predict_run, "write_result_texts"), (PartFolder, "remove"))
        setattr(*places[batch], end)
        return
    write: Callable[[PartWriter, Iterable[bytes]], None] = PartWriter.write
    written = [0]

    def disturbed(self: PartWriter, lines: Iterable[bytes]) -> None:
        if how == "slow":
            time.sleep(batch / 1000)
        elif written[0] == batch:
            if how == "tear":
                text = b"".join(lines)
                write(self, [text[: len(text) // 2]])
            end()
        written[0] += 1
        write(self, lines)

    PartWriter.write = disturbed  # type: ignore[method-assign]


if __name__ == "__main__":
    how, rank, batch = sys.argv[1], sys.argv[2], int(sys.argv[3])
    is_meant = os.environ.get("RANK", "0") == rank and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
    if how == "slow" or is_meant:
        disturb(how, batch)
    main(sys.argv[4:])
