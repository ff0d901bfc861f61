"""Ways to start several processes wrong: addresses, numbers, ranks, settings that differ, too few devices."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest import mock

import torch

from eventide.cli import make_app, run
from eventide.cli.train import train
from eventide.cli.train_ddp import train_ddp
from eventide.engine.fit import FitOptions
from eventide.engine.processes import Launch
from eventide.engine.rendezvous import refuse_too_few_devices
from eventide.engine.setup import settings_of
from eventide.engine.world import refuse_differences
from eventide.types import EventideError
from tests.engine.making import run_training, tiny_config, write_config, write_data
from tests.engine.several.pool import free_port
from tests.errors.error_case import CommandLineError, ErrorCase

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
LAUNCHERS = ("TORCHELASTIC_RUN_ID", "SLURM_STEP_ID")
NOBODY = "9"  # a port of old that nobody listens at
SECOND = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": NOBODY}


def started(
    command: Callable[..., None], words: list[str], environment: Mapping[str, str], port: int | None = None
) -> None:
    """Run a command in this process as one of several; `port` is written PORT in its message."""
    app = make_app("train_ddp.py", "")
    app.default(command)
    errors = io.StringIO()
    kept = {key: value for key, value in os.environ.items() if key not in (*NAMES, *LAUNCHERS)}
    with (
        mock.patch.dict(os.environ, {**kept, **environment}, clear=True),
        contextlib.redirect_stderr(errors),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        code = run(app, words)
    message = errors.getvalue().removeprefix("error: ").strip()
    if code:
        raise CommandLineError(message if port is None else message.replace(str(port), "PORT"), code)


def ddp(words: str = "", **changes: str | None) -> Callable[[Path], None]:
    """`train_ddp.py` as the second of two, with other variables (None: not set)."""

    def attempt(folder: Path) -> None:
        config = write_config(folder, tiny_config(folder))
        environment = {key: value for key, value in {**SECOND, **changes}.items() if value is not None}
        started(train_ddp, [str(config), *(words or "--connect-timeout 1").split()], environment)

    return attempt


def without_others(folder: Path) -> None:
    port = free_port()
    environment = {**SECOND, "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "3", "MASTER_PORT": str(port)}
    config = write_config(folder, tiny_config(folder))
    started(train_ddp, [str(config), "--connect-timeout", "1"], environment, port)


def one_process_command(folder: Path) -> None:
    started(train, [str(write_config(folder, tiny_config(folder)))], SECOND)


def alone(words: str) -> Callable[[Path], None]:
    """`train_ddp.py` as a plain process, in the folder of a finished run."""

    def attempt(folder: Path) -> None:
        write_data(folder)
        config = tiny_config(folder, opt={"epochs": 1, "warmup": False, "warmup_epochs": 0})
        run_training(folder, config, "run", print_freq=1000)
        started(train_ddp, [str(write_config(folder, config)), "--output", "run", *words.split()], {})

    return attempt


def other_settings(folder: Path) -> None:
    found = [
        settings_of(tiny_config(folder, opt={"learning_rate": rate}), FitOptions(amp=amp))
        for rate, amp in ((0.01, False), (0.5, True))
    ]
    refuse_differences("settings", found)


def few_devices(folder: Path) -> None:
    with mock.patch.object(torch.cuda, "device_count", return_value=2):
        refuse_too_few_devices(Launch("torchrun", 0, 4, 0, 4), "cuda")


def lost_features(folder: Path) -> None:
    """What the process says that meets a feature file which was damaged after the check of the data."""
    from eventide.data.dataset import EventDataset

    write_data(folder)
    data = EventDataset(tiny_config(folder), "training", training=True)
    (folder / "data" / "features" / "rec0.npy").write_bytes(b"cut off")
    data.sample(0, 0)


def lost_process(folder: Path) -> None:
    from eventide.engine.guard import lost_connection

    error: EventideError = lost_connection(
        RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [10.0.0.7]:5120"),
        Path("runs/tiny/checkpoints/step_00000020.pt"),
    )
    raise error


def case(label: str, how: str, run: Callable[[Path], object], message: str, exit_code: int = 2) -> ErrorCase:
    return ErrorCase(label, how, run, message, exit_code)


CASES: list[ErrorCase] = [
    case("nobody listens", "started the second process with a wrong port", ddp(), r"cannot be reached at.*refused", 1),
    case(
        "no such host",
        "gave a `MASTER_ADDR` that does not exist",
        ddp(MASTER_ADDR="no-such-host.invalid"),
        r"cannot be reached at no-such-host",
        1,
    ),
    case(
        "no such host, first",
        "gave the first process a `MASTER_ADDR` that does not exist",
        ddp(MASTER_ADDR="no-such-host.invalid", RANK="0"),
        r"MASTER_ADDR=no-such-host\.invalid: .*machine where process 0 runs",
        1,
    ),
    case("others missing", "started one process of three", without_others, r"not all 3 .*PORT: 1, 2 missing", 1),
    case("no address", "did not say where to meet", ddp(MASTER_ADDR=None, MASTER_PORT=None), r"MASTER_ADDR and MAS"),
    case("no port number", "gave a port beyond 65535", ddp(MASTER_PORT="99999"), r"MASTER_PORT=99999: a port number"),
    case("no rank", "set `WORLD_SIZE=2` alone", ddp(RANK=None, LOCAL_RANK=None), r"RANK, LOCAL_RANK is not set"),
    case("rank beyond", "set `RANK=2` of two processes", ddp(RANK="2"), r"do not fit together: RANK=2, WORLD_SIZE=2"),
    case("rank no number", "set `RANK=first`", ddp(RANK="first"), r"RANK=first: a whole number"),
    case("uneven", "set 2 processes on machines of 3", ddp(LOCAL_WORLD_SIZE="3"), r"do not fit together"),
    case("no patience", "gave `--connect-timeout 0`", ddp("--connect-timeout 0"), r"number of seconds above 0"),
    case("train.py", "started `train.py` in two processes", one_process_command, r"start train_ddp\.py"),
    case("settings differ", "started two processes with other settings", other_settings, r"learning_rate is 0\.01 in"),
    case("few devices", "started 4 processes on 2 CUDA devices", few_devices, r"4 processes.*2 CUDA device"),
    case("run there", "started `train_ddp.py` where a run is", alone(""), r"already holds a run"),
    case(
        "resume, other settings, ddp",
        "resumed with `train_ddp.py` and other settings",
        alone("--resume auto --set opt.weight_decay=0.3"),
        r"opt\.weight_decay was",
        1,
    ),
    case(
        "resume, other model, ddp",
        "resumed with `train_ddp.py` and another model",
        alone("--resume auto --set model.backbone_type=conv"),
        r"not interchangeable",
        1,
    ),
    case("features lost", "damaged a feature file meanwhile", lost_features, r"rec0\.npy", 1),
    case("process lost", "lost another process", lost_process, r"lost: it has failed.*--resume auto", 1),
]
