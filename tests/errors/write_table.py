"""Write docs/errors.md from the cases: `python -m tests.errors.write_table`.

Every case is run, so the document holds what Eventide says today. A test fails when it is out of date.
"""

from __future__ import annotations

import contextlib
import html
import importlib
import io
import tempfile
from pathlib import Path

from tests.errors.error_case import ErrorCase, Outcome, outcome_of

FOLDER = Path(__file__).resolve().parent
DOCUMENT = FOLDER.parent.parent / "docs" / "errors.md"
TITLES = {
    "config": "Configuration",
    "losses": "Losses",
    "recommend": "Recommendations",
    "annotations": "Annotations",
    "points": "Point events",
    "features": "Features",
    "shards": "Feature shards",
    "processes": "Several processes",
    "checkpoints": "Checkpoints and models",
    "training": "Training",
    "command_line": "Command line",
    "results": "Results, evaluation and plots",
    "postprocess": "Post-processing",
    "point_results": "Results and evaluation of point events",
    "calibrate": "Calibration",
    "predict_parts": "Predicting at scale",
    "bench": "Measuring",
    "make_toy": "Generated data sets",
}
HEAD = """# What can go wrong, and what Eventide says

This page is generated from the tests (`python -m tests.errors.write_table`): every row is a test that does what the
first column says and gets the message of the second. `DIR` stands for the folder of the files. Exit code 2 is wrong use
(a bad option, path or configuration), 1 is everything else that can be mended; nothing here ever shows a traceback.
"""


def all_cases() -> list[tuple[str, list[ErrorCase]]]:
    """Part and cases of every `cases_<part>.py` beside this file, in the order of `TITLES`."""
    parts = {path.stem.removeprefix("cases_") for path in FOLDER.glob("cases_*.py")}
    ordered = [part for part in TITLES if part in parts] + sorted(parts - set(TITLES))
    return [(part, list(importlib.import_module(f"tests.errors.cases_{part}").CASES)) for part in ordered]


def document() -> str:
    """The text of docs/errors.md."""
    parts = all_cases()
    lines = [HEAD, f"{sum(len(cases) for _, cases in parts)} cases.", ""]
    for part, cases in parts:
        lines += [
            f"## {TITLES.get(part, part.capitalize())}",
            "",
            "| you did | Eventide says | exit |",
            "| --- | --- | --- |",
        ]
        for case in cases:
            outcome = quiet_outcome(case)
            lines.append(f"| {case.how} | {as_cell(outcome.message)} | {outcome.exit_code} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def quiet_outcome(case: ErrorCase) -> Outcome:
    """What the user sees at the end; what commands print on the way is no part of it."""
    silence = io.StringIO()
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stdout(silence),
        contextlib.redirect_stderr(silence),
    ):
        return outcome_of(case, Path(folder).resolve())


def as_cell(message: str) -> str:
    """A message as one cell of a Markdown table, its lines kept apart."""
    lines = [line.strip().replace("|", "&#124;") for line in html.escape(message, quote=False).splitlines()]
    return "<br>".join(f"<code>{line}</code>" for line in lines if line)


def main() -> None:
    """Write the document."""
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(document(), encoding="utf-8")
    print(f"written: {DOCUMENT}")


if __name__ == "__main__":
    main()
