"""How processes meet, and what they are told when they cannot."""

from __future__ import annotations

import pytest
import torch.distributed as dist

from eventide.engine import rendezvous
from eventide.engine.processes import Launch
from eventide.engine.world import in_short
from eventide.types import EventideError


def test_the_first_process_dies_while_another_waits_for_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in place.items():
        monkeypatch.setenv(name, value)

    class Gone:
        def set(self, *_: object) -> None:
            pass

        def check(self, *_: object) -> bool:
            raise dist.DistNetworkError("Connection reset by peer\nframes of C++")

    monkeypatch.setattr(rendezvous, "_table", lambda *_: Gone())
    message = r"process 0 at 127\.0\.0\.1:1 is gone \(Connection reset by peer\)"
    with pytest.raises(EventideError, match=message), rendezvous.joined(Launch("torchrun", 1, 2, 1, 2), "cpu", 5):
        pass


WORDS = [
    pytest.param("", "RuntimeError", id="nothing"),
    pytest.param(
        "\n  Connection closed by peer [127.0.0.1]:4\nC++ trace", "Connection closed by peer [127.0.0.1]:4", id="gloo"
    ),
    pytest.param(
        "NCCL error in: x.cpp:1, invalid usage\nncclInvalidUsage: This usually reflects misuse.\nLast error:\n"
        "Duplicate GPU detected : rank 1 and rank 0",
        "NCCL error in: x.cpp:1, invalid usage Duplicate GPU detected : rank 1 and rank 0",
        id="NCCL",
    ),
    pytest.param("broken\nLast error:", "broken", id="cut off"),
]


@pytest.mark.parametrize(("text", "expected"), WORDS)
def test_what_a_library_says_in_short(text: str, expected: str) -> None:
    assert in_short(RuntimeError(text)) == expected
