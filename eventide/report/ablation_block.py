"""The ablation as a block of a Markdown page, between markers of its own; nothing else of the page is touched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eventide.ops.files import write_text
from eventide.report.bench_tables import machine_text
from eventide.report.units import bytes_text, ratio_text, seconds_text
from eventide.types import UsageError

HEADER = (
    "| configuration | training time | guide | training memory | guide | inference time | training step | memory | "
    "inference | runs |"
)
NOT_MEASURED = "Not measured yet."


def markers(device: str) -> tuple[str, str]:
    """The lines that a block of a device stands between; `device` is cpu, cuda or mps."""
    return f"<!-- ablation:begin {device} -->", f"<!-- ablation:end {device} -->"


def check_markers(path: Path, device: str) -> str:
    """The text of a page that has the markers of a device, once each and in order.

    Raises:
        UsageError: the page cannot be read, or does not have them; says what to add.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise UsageError(f"--write {path}: cannot be read: {reason}") from None
    begin, end = markers(device)
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise UsageError(
            f"--write {path}: the table goes between two lines that the page must have once each, in this order: "
            f"{begin} and {end}; the file was left as it is"
        )
    return text


def write_block(path: Path, content: Mapping[str, Any]) -> None:
    """Replace what stands between the markers of the measured device by the table.

    Raises:
        UsageError: the page does not have the markers.
    """
    device = content["machine"]["device"]
    text = check_markers(path, device)
    begin, end = markers(device)
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    write_text(path, f"{before}{begin}\n\n{ablation_markdown(content)}\n\n{end}{after}")


def ablation_markdown(content: Mapping[str, Any]) -> str:
    """The table, and below it what was measured on what."""
    lines = [HEADER, "| --- " * 10 + "|"]
    lines += [_row(row) for row in content["rows"]]
    lines += [
        "| v2 + AMP + 4 GPUs | not measured (one device) | 0.12x | | 0.50x | | | | | |",
        "",
        f"`eventide bench --ablation {content['config']}`, T = {content['length']}, training batch "
        f"{content['training_batch']}, inference batch 1, all rows in turn, medians; "
        f"{machine_text(content['machine'])}.",
    ]
    if not content["complete"]:
        lines.append("The measurement was interrupted: the rows have fewer runs than asked for.")
    return "\n".join(lines)


def _row(row: Mapping[str, Any]) -> str:
    training, inference = row["training"], row["inference"]
    guide = [ratio_text(row["guide_time_ratio"]), ratio_text(row["guide_memory_ratio"])]
    if not training["runs"]:
        reason = " ".join(str(row["reason"] or "not measured").split()).replace("|", "/")
        cells = [row["label"], reason, guide[0], "", guide[1], "", "", "", "", ""]
    else:
        cells = [
            row["label"],
            ratio_text(row["training_time_ratio"]),
            guide[0],
            ratio_text(row["training_memory_ratio"]),
            guide[1],
            ratio_text(row["inference_time_ratio"]),
            seconds_text(training["seconds"]),
            bytes_text(training["memory_in_all_bytes"]),
            seconds_text(inference["seconds"]),
            str(training["runs"]),
        ]
    return "| " + " | ".join(cells) + " |"
