"""Ways to get a configuration wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.errors.error_case import ErrorCase, run_cli


def shown(text: str | bytes, *overrides: str, **others: str) -> Callable[[Path], object]:
    """Write `text` as c.yaml (and `others` as NAME.yaml), then `eventide config show c.yaml`."""

    def run(folder: Path) -> object:
        content = text.encode() if isinstance(text, str) else text
        (folder / "c.yaml").write_bytes(content)
        for name, other in others.items():
            (folder / f"{name}.yaml").write_text(other, encoding="utf-8")
        return run_cli(["config", "show", "c.yaml", *(["--set", *overrides] if overrides else [])], folder)

    return run


def case(label: str, how: str, text: str | bytes, message: str, *overrides: str, **others: str) -> ErrorCase:
    return ErrorCase(label, how, shown(text, *overrides, **others), message, 2)


CASES: list[ErrorCase] = [
    ErrorCase(
        "config missing",
        "named a configuration file that is not there",
        lambda folder: run_cli(["config", "show", "thumos.yaml"], folder),
        r"thumos\.yaml: no such configuration file",
        2,
    ),
    ErrorCase(
        "config is a folder",
        "named a folder as the configuration",
        lambda folder: run_cli(["config", "show", folder], folder),
        r"is a folder, a configuration file was expected",
        2,
    ),
    case("config empty", "gave an empty configuration file", "", r"c\.yaml: is empty"),
    case(
        "config binary", "gave a checkpoint as the configuration", b"PK\x03\x04\xff\xfe", r"c\.yaml: is not a text file"
    ),
    case("config not YAML", "left a bracket open", "opt:\n  schedule_steps: [1, 2\n", r"c\.yaml:3: not valid YAML"),
    case("config a list", "wrote a list in place of keys", "- 1\n- 2\n", r"c\.yaml:1: must be a mapping of keys"),
    case(
        "config aliases",
        "nested YAML aliases so that the file grows without end",
        "\n".join(
            ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1]"]
            + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 9)]
        ),
        r"holds more than 20000 values",
    ),
    case("config nesting", "nested lists a thousand deep", "a: " + "[" * 1000, r"nested deeper than"),
    case(
        "key misspelt",
        "misspelt a key",
        "opt:\n  learing_rate: 0.001\n",
        r"c\.yaml:2: .*did you mean opt\.learning_rate\?",
    ),
    case(
        "key in the wrong section",
        "put a key into the wrong section",
        "model:\n  use_abs_pe: true\n",
        r"did you mean model\.backbone\.use_abs_pe\?",
    ),
    case("key twice", "gave a key twice", "opt:\n  epochs: 3\n  epochs: 4\n", r"c\.yaml:3: opt\.epochs: given twice"),
    case(
        "wrong type",
        "wrote text where a number belongs",
        "opt:\n  epochs: many\n",
        r"must be a whole number, at least 1",
    ),
    case(
        "out of range", "gave a negative learning rate", "opt: {learning_rate: -1}", r"must be a number, greater than 0"
    ),
    case("wrong choice", "named an optimiser that is not offered", "opt: {type: Adam}", r"must be one of AdamW, SGD"),
    case("wrong device", "named a device that does not exist", "device: gpu", r"device: must be one of auto"),
    case(
        "several at once",
        "made three mistakes in one file",
        "seed: x\nopt:\n  epochs: 0\n  lr: 1\n",
        r"(?s)3 problems.*c\.yaml:1.*c\.yaml:3.*c\.yaml:4",
    ),
    case(
        "variable not set",
        "used an environment variable that is not set",
        "dataset: {json_file: '${EVENTIDE_NO_SUCH_FOLDER}/a.json'}",
        r"environment variable EVENTIDE_NO_SUCH_FOLDER is not set",
    ),
    case(
        "base missing",
        "inherited from a file that is not there",
        "base: no.yaml",
        r"c\.yaml:1: base: no\.yaml: no such",
    ),
    case(
        "base cycle",
        "let two files inherit from one another",
        "base: b.yaml",
        r"b\.yaml:1: base: .*itself",
        b="base: c.yaml",
    ),
    case(
        "base wrong",
        "inherited a mistake",
        "base: b.yaml",
        r"b\.yaml:1: loader\.batch_size: must be a whole number",
        b="loader: {batch_size: 0}",
    ),
    case(
        "override form",
        "gave --set without a value",
        "seed: 1",
        r"--set: opt\.epochs: must have the form",
        "opt.epochs",
    ),
    case(
        "override misspelt",
        "misspelt a key after --set",
        "seed: 1",
        r"--set: opt\.epoch: unknown key; did you mean opt\.epochs\?",
        "opt.epoch=3",
    ),
    case(
        "two lengths",
        "gave max_len and max_seq_len different values",
        "dataset: {max_seq_len: 2304}\nmodel: {backbone: {max_len: 4096}}\n",
        r"c\.yaml:2: model\.backbone\.max_len: is 4096 but dataset\.max_seq_len is 2304",
    ),
    case(
        "heads",
        "chose a number of heads that does not divide the channels",
        "model: {backbone: {n_embd: 256, n_head: 6}}",
        r"6 does not divide the 256 channels",
    ),
    case(
        "odd heads that turn",
        "chose heads of an odd width for rotary positions",
        "model: {backbone_type: convTransformerv2, backbone: {n_embd: 60, n_head: 4}}",
        r"4 leaves 15 channels per head, and use_rope turns them in pairs",
    ),
    case(
        "windows",
        "gave five windows for six levels",
        "model: {backbone: {mha_win_size: [9, 9, 9, 9, 9]}}",
        r"has 5 entries but arch \[2, 2, 5\] makes 6 levels",
    ),
    case("even window", "chose an even window", "model: {backbone: {mha_win_size: 10}}", r"got 10; use 11"),
    case(
        "ranges",
        "gave fewer regression ranges than levels",
        "model: {regression_range: [[0, 4], [4, 10000]]}",
        r"has 2 rows for 6 pyramid levels",
    ),
    case(
        "v2 key under v1",
        "set a switch of backbone v2 under v1",
        "model: {backbone: {use_rope: true}}",
        r"belongs to model\.backbone_type convTransformerv2",
    ),
    case(
        "not available yet",
        "set a key whose part does not exist yet",
        "opt: {early_stop_epochs: 3}",
        r"early_stop_epochs: not available yet; leave this key out",
    ),
    case(
        "steps of a cosine",
        "gave schedule_steps with a cosine schedule",
        "opt: {schedule_steps: [10, 20]}",
        r"belongs to schedule_type multistep",
    ),
    case(
        "lengths of fixed batches",
        "asked for several lengths where batches are padded to a fixed one",
        "loader: {batching: fixed, num_lengths: 8}",
        r"num_lengths: belongs to batching longest or bucketed",
    ),
    case(
        "pickled scores",
        "fused class scores from a pickle",
        "test_cfg: {ext_score_file: scores.pkl}",
        r"convert it to \.json or \.npz",
    ),
    case(
        "flat key misspelt",
        "misspelt a key in a configuration of ActionFormer",
        "model:\n  n_mha_win_size: 9\n  max_buffer_len_facter: 4.0\n",
        r"c\.yaml:3: .*did you mean model\.max_buffer_len_factor\?",
    ),
    case(
        "published length",
        "used a length that ActionFormer's padding cannot divide",
        "model:\n  n_mha_win_size: 9\ndataset:\n  max_seq_len: 1000\n",
        r"1000 is not divisible by",
    ),
]
