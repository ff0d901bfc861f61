"""`torchrun ... train_ddp.py` from start to end: other numbers of processes, two nodes, signals, what goes wrong."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator

import pytest

from tests.cli.launching import Command, Ended, Place, weights_differ
from tests.engine.several.pool import free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc"),
]
STEPS = 8  # of the undisturbed run: 4 epochs of 2
WHOLE = ("--ckpt-steps", "1", "--eval-freq", "2", "--print-freq", "1")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Without dropout, which depends on how a step is cut; holds the undisturbed run of two processes, `whole`."""
    # Not AdamW: it divides by the size of the gradients, so where one is zero but for rounding (the bias of attention's
    # keys), rounding decides, and a step that is cut in another way rounds otherwise.
    opt = {"type": "SGD", "learning_rate": 0.01, "epochs": 3, "warmup_epochs": 1}
    train = {"droppath": 0.0, "dropout": 0.0, "init_loss_norm": 5.0, "keep_checkpoints": 100}
    made = Place.make(tmp_path_factory.mktemp("ddp"), opt=opt, train_cfg=train)
    ended = made.torchrun("whole", *WHOLE).finish()
    assert ended.code == 0, ended.err
    assert made.step("whole") == STEPS
    yield made
    made.family.kill()


def equal(place: Place, name: str, tolerance: float = 0.0) -> None:
    """The finished run `name` has done the steps of the undisturbed one, and nothing is left of it."""
    assert place.step(name) == STEPS
    assert weights_differ(place.run("whole"), place.run(name), tolerance) == 0
    assert place.family.left() == []


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_a_run_of_two_goes_on_with_other_numbers(place: Place, processes: int) -> None:
    place.copy_until("whole", 3, f"on_{processes}")
    ended = place.torchrun(f"on_{processes}", "--resume", "auto", *WHOLE, processes=processes).finish()
    assert ended.code == 0, ended.err
    assert "step 3 of 8" in ended.out
    equal(place, f"on_{processes}", 0.0 if processes == 2 else 1e-5)


def test_a_run_of_two_goes_on_with_train_py(place: Place) -> None:
    place.copy_until("whole", 3, "on_train")
    ended = place.alone("on_train", "--resume", "auto", *WHOLE, script="train.py").finish()
    assert ended.code == 0, ended.err
    equal(place, "on_train", 1e-5)


@pytest.mark.parametrize("rendezvous", ["static", "c10d"])
def test_two_nodes(place: Place, rendezvous: str) -> None:
    port = free_port()
    static = ["--master_addr=127.0.0.1", f"--master_port={port}"]
    dynamic = ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=two"]
    where = static if rendezvous == "static" else dynamic
    agents = [
        place.torchrun(
            f"nodes_{rendezvous}",
            *WHOLE,
            agent=["--nproc_per_node=1", "--nnodes=2", *where, *([f"--node_rank={node}"] * (rendezvous == "static"))],
        )
        for node in (0, 1)
    ]
    ended = [agent.finish() for agent in agents]
    assert [done.code for done in ended] == [0, 0], ended
    assert sorted("step 8/8" in done.out for done in ended) == [False, True]
    equal(place, f"nodes_{rendezvous}")


@pytest.mark.parametrize("replaced", [False, True], ids=["a third one", "one in place of another"])
def test_a_node_comes(place: Place, replaced: bool) -> None:
    """As docs/scaling.md says: without that variable PyTorch 2.13 ends all nodes where one comes."""
    name, nodes = f"comes_{replaced}", "2" if replaced else "2:3"
    where = [f"--nnodes={nodes}", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{free_port()}", "--rdzv-id=comes"]
    words = ("--resume", "auto", "--ckpt-steps", "20", "--eval-freq", "0", "--set", "opt.epochs=100000")

    def node(number: int) -> Command:
        host = f"--rdzv-conf=is_host={int(number == 0)},last_call_timeout=3"
        agent = ["--nproc_per_node=1", *where, host, "--max-restarts=3"]
        return place.torchrun(
            name, *words, "--print-freq", "1000", agent=agent, environment={"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
        )

    agents = [node(0), node(1)]
    place.wait_for(lambda: place.step(name) >= 20, agents[0])
    if replaced:
        for member in place.family.members():
            if agents[1].process.pid in (member.pid, member.parent):
                member.kill()
        agents[1].finish()
    agents.append(node(2))
    place.wait_for(lambda: (place.run(name) / "train.log").read_text().count("process(es): a step") == 2, agents[0])
    before = place.step(name)
    place.wait_for(lambda: place.step(name) > before, agents[0])
    log = (place.run(name) / "train.log").read_text()
    assert "going on from" in log
    assert ("3 process(es): a step" in log) != replaced
    left = agents[:1] + agents[2:] if replaced else agents
    for agent in left:
        agent.process.terminate()
    for agent in left:
        agent.finish()
    assert place.family.left() == []


@pytest.mark.parametrize(
    ("how", "evaluates", "loaders"),
    [
        ("agent", False, 0),
        ("all", False, 0),
        ("one", False, 1),
        ("one", True, 0),
        ("alone", False, 0),
        ("hand", False, 0),
    ],
)
def test_sigterm_saves_and_all_leave(place: Place, how: str, evaluates: bool, loaders: int) -> None:
    name = f"term_{how}_{evaluates}"
    frequency = "1" if evaluates else "0"
    words = ["--set", "opt.epochs=2000", f"loader.num_workers={loaders}", "--ckpt-steps", "1", "--print-freq", "1000"]
    words += ["--eval-freq", frequency]
    if how == "alone":
        commands = [place.alone(name, *words)]
    elif how == "hand":
        commands = place.by_hand(name, *words)
    else:
        commands = [place.torchrun(name, *words)]
    place.wait_for(lambda: place.step(name) >= 3, commands[0])
    if how in ("agent", "alone"):
        commands[0].process.send_signal(signal.SIGTERM)
    elif how == "hand":
        commands[1].process.send_signal(signal.SIGTERM)
    else:
        workers = place.family.workers()
        assert len(workers) == 2
        for worker in workers if how == "all" else workers[1:]:
            worker.send(signal.SIGTERM)
    ended = [command.finish() for command in commands]
    # torchrun itself ends with a code of its own where the signal was for it
    assert [done.code == 0 for done in ended] == [how != "agent"] * len(ended), ended
    said = [line for line in ended[0].out.splitlines() if line.startswith("interrupted: checkpoint saved as")]
    assert len(said) == 1
    assert f"{place.step(name)}.pt" in said[0]
    assert not [done for done in ended if "Traceback" in done.err and how != "agent"]
    assert place.family.left() == []


def only(ended: list[Ended], code: int, message: str) -> None:
    """All processes end with `code`, and one of them says `message`, once."""
    assert {done.code for done in ended} == {code}, ended
    said = [line for done in ended for line in done.errors()]
    assert len(said) == 1, said
    assert message in said[0]
    assert not any("Traceback" in done.err for done in ended)


def test_settings_that_differ_between_processes(place: Place) -> None:
    each = {1: ["--set", "opt.learning_rate=0.5"]}
    ended = [command.finish() for command in place.by_hand("differ", each=each)]
    only(ended, 2, "opt.learning_rate is 0.01 in process 0 and 0.5 there")
    assert not place.run("differ").exists()


TOGETHER = [
    pytest.param("whole", "already holds a run", id="a folder that holds a run"),
    pytest.param("wrong --set opt.learning_rate=fast", "opt.learning_rate", id="configuration"),
    pytest.param("wrong --print-freq 0", "--print-freq 0: give 1 or more", id="option"),
    pytest.param("wrong --prnt-freq 1", "--prnt-freq", id="unknown option"),
    pytest.param("wrong --resume /nowhere.pt", "there is no such file", id="checkpoint not there"),
    pytest.param("wrong --set device=cuda", "device", id="no CUDA device"),
]


@pytest.mark.parametrize(("words", "message"), TOGETHER)
def test_what_is_wrong_in_all_is_said_once(place: Place, words: str, message: str) -> None:
    ended = place.torchrun(*words.split()).finish()
    assert ended.code == 1  # torchrun's own; it names ours in its report
    assert len(ended.errors()) == 1, ended.err
    assert message in ended.errors()[0]
    # the report of torchrun comes after it, and its traceback is the only one
    assert ended.err.index("error: ") < ended.err.index("Traceback")
    assert 'train_ddp.py", line' not in ended.err


def test_a_file_that_breaks_in_the_middle_ends_all(place: Place) -> None:
    """One process meets the bad file, and says so; the others say that it is gone."""
    other = Place.make(place.folder / "breaks", opt={"epochs": 2000, "warmup_epochs": 1})
    started = other.torchrun("bad", *WHOLE)
    other.wait_for(lambda: other.step("bad") >= 2, started)
    (other.folder / "data" / "features" / "rec3.npy").write_bytes(b"")
    ended = started.finish()
    assert ended.code != 0
    about = [line for line in ended.errors() if "rec3.npy" in line]
    assert len(about) == 1
    assert "the feature file is empty" in about[0]
    assert "eventide/" not in ended.err.replace("train_ddp.py", "")  # no traceback of ours
    assert other.step("bad") >= 2
    assert other.family.left() == []
    other.family.kill()


def test_numbers_that_are_not_finite_are_told_once_with_all_recordings(place: Place) -> None:
    """A rate that no training survives: both processes' recordings are named, by the first process alone."""
    wild = {"type": "SGD", "learning_rate": 1e30, "epochs": 40, "warmup_epochs": 0, "warmup": False}
    other = Place.make(place.folder / "wild", opt=wild, train_cfg={"max_bad_steps": 2, "clip_grad_l2norm": -1})
    ended = other.torchrun("wild", *WHOLE).finish()
    assert ended.code != 0
    (message,) = ended.errors()
    assert "2 steps in a row had a loss or gradient that is NaN or infinite" in message
    assert message.count("'rec") >= 2
    assert other.family.left() == []
    other.family.kill()


def test_the_others_of_a_killed_process_name_the_last_checkpoint(place: Place) -> None:
    """Only the first process writes checkpoints; the others look for them."""
    words = ("--ckpt-steps", "1", "--eval-freq", "0", "--set", "opt.epochs=300")
    first, second = place.by_hand("killed", *words)
    place.wait_for(lambda: place.step("killed") >= 3, first)
    first.process.kill()
    ended = second.finish()
    first.finish()
    assert ended.code == 1
    (message,) = ended.errors()
    assert re.search(r"connection to another process.*The last good checkpoint is .*step_\d+\.pt", message)
