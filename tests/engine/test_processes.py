"""How a process was started, from the variables of its environment."""

from __future__ import annotations

import pytest

from eventide.engine.processes import Launch, find_launch
from eventide.types import UsageError

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "x"}
SLURM = {
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "3",
    "SLURM_NTASKS": "4",
    "SLURM_LOCALID": "1",
    "SLURM_TASKS_PER_NODE": "2(x2)",
}

STARTS = [
    pytest.param({}, Launch(), id="alone"),
    pytest.param({"WORLD_SIZE": "1", "SLURM_NTASKS": "1"}, Launch(), id="a cluster's job of one"),
    pytest.param(TORCHRUN, Launch("torchrun", 5, 8, 1, 4), id="torchrun"),
    pytest.param(
        {**TORCHRUN, "TORCHELASTIC_RESTART_COUNT": "2"}, Launch("torchrun", 5, 8, 1, 4, 2), id="torchrun, again"
    ),
    pytest.param({**TORCHRUN, **SLURM}, Launch("torchrun", 5, 8, 1, 4), id="torchrun within a task"),
    pytest.param({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, Launch("torchrun", 0, 2, 0, 2), id="by hand"),
    pytest.param(SLURM, Launch("slurm", 3, 4, 1, 2), id="srun"),
    pytest.param({**SLURM, "SLURM_STEP_TASKS_PER_NODE": "4"}, Launch("slurm", 3, 4, 1, 4), id="srun on one machine"),
    pytest.param({key: value for key, value in SLURM.items() if "STEP" not in key}, Launch(), id="a batch script"),
    pytest.param({**SLURM, "SLURM_STEP_ID": "4294967290"}, Launch(), id="an interactive shell"),
    pytest.param({**SLURM, "SLURM_STEP_ID": "4294967291"}, Launch(), id="the step number of a batch script"),
]


@pytest.mark.parametrize(("environment", "expected"), STARTS)
def test_starts(environment: dict[str, str], expected: Launch) -> None:
    assert find_launch(environment) == expected
    assert find_launch(environment).machines == expected.size // expected.local_size


CONTRADICTIONS = [
    pytest.param({"WORLD_SIZE": "2"}, "RANK, LOCAL_RANK is not set", id="only the number"),
    pytest.param({**TORCHRUN, "RANK": "8"}, "do not fit together.*RANK=8", id="rank beyond"),
    pytest.param({**TORCHRUN, "LOCAL_RANK": "4"}, "do not fit together", id="local rank beyond"),
    pytest.param({**TORCHRUN, "RANK": "-1"}, "do not fit together", id="negative"),
    pytest.param({**TORCHRUN, "RANK": "first"}, "RANK=first: a whole number", id="no number"),
    pytest.param({**TORCHRUN, "LOCAL_WORLD_SIZE": "3"}, "do not fit onto machines of 3", id="uneven machines"),
    pytest.param({**SLURM, "SLURM_TASKS_PER_NODE": "3,1"}, "3,1 tasks per node", id="uneven nodes"),
]


@pytest.mark.parametrize(("environment", "message"), CONTRADICTIONS)
def test_contradictions(environment: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_launch(environment)
