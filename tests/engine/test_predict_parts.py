"""Parts and their merge: every recording once, the same file for any number of processes, nothing lost."""

from __future__ import annotations

import json
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventide.engine import predict_run, predict_together
from eventide.engine.predict_parts import PartFolder, PartWriter, part_line, read_part
from eventide.engine.predict_run import Outcome
from eventide.engine.predict_shares import share_out
from eventide.evaluation.results import write_results, write_results_csv
from eventide.types import Detections, EventideError, UsageError
from tests.engine.predict_work import (
    SETTINGS,
    MadeUpWork,
    Said,
    detections_of,
    predict_alone,
    predict_in_threads,
)

NAMES = {f"rec {index}": 3 + (index * 7) % 11 for index in range(13)}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the others often, and wait for nobody long."""
    monkeypatch.setattr(predict_together, "PAUSE", 0.002)
    monkeypatch.setattr(predict_together, "ENDING", 0.2)
    monkeypatch.setattr(predict_together, "LATE", 5.0)


def expected(folder: Path, names: Any = NAMES) -> tuple[bytes, bytes]:
    """The results file and the table, written at once."""
    found = {name: detections_of(name) for name in names}
    write_results(folder / "expected.json", found)
    write_results_csv(folder / "expected.csv", found)
    return (folder / "expected.json").read_bytes(), (folder / "expected.csv").read_bytes()


# Lines

LINES = [part_line(name, detections_of(name), [3, 25.0, None], 1.5) for name in ("a", 'b", "detections": [', "ü")]


@given(st.integers(0, sum(map(len, LINES))))
def test_a_torn_last_line_is_passed_over(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "part.jsonl"
    path.write_bytes(b"".join(LINES)[:cut])
    whole = sum(sum(map(len, LINES[: count + 1])) <= cut for count in range(3))
    found = list(read_part(path))
    assert [line.recording for line in found] == ["a", 'b", "detections": [', "ü"][:whole]
    with path.open("rb") as file:
        for line in found:
            text = json.dumps([record["score"] for record in json.loads(line.text(file))])
            scores = sorted(detections_of(line.recording).scores.tolist(), reverse=True)
            assert (line.detections, text) == (len(scores), json.dumps(scores))


@given(st.integers(0, len(LINES[1]) - 1), st.sampled_from([b"\0", b"7", b'"', b"\n"]))
def test_a_damaged_line_never_gives_other_detections(tmp_path: Path, place: int, byte: bytes) -> None:
    damaged = LINES[1][:place] + byte + LINES[1][place + 1 :]
    (tmp_path / "part.jsonl").write_bytes(LINES[0] + damaged + LINES[2])
    found = {line.recording: line for line in read_part(tmp_path / "part.jsonl")}
    assert "a" in found
    with (tmp_path / "part.jsonl").open("rb") as file:
        for line in found.values():
            assert any(line.text(file) + b"}\n" == whole[-line.size - 2 :] for whole in LINES)


def test_lines_need_finite_numbers() -> None:
    broken = Detections(np.array([[0, np.nan]]), np.array([0.5]), np.array([0]), ["a"])
    with pytest.raises(EventideError, match="NaN or infinite"):
        part_line("a", broken, [], 0.0)


# Any number of processes


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("names", "batch_size"),
    [
        pytest.param(NAMES, 1, id="many"),
        pytest.param(NAMES, 4, id="batches"),
        pytest.param({"one": 9}, 1, id="one recording"),
        pytest.param({"b": 2, "a": 2}, 1, id="fewer than processes"),
    ],
)
def test_the_files_are_the_same(tmp_path: Path, names: dict[str, int], batch_size: int, processes: int) -> None:
    works = [MadeUpWork(names, batch_size) for _ in range(processes)]
    outcomes, said = predict_in_threads(works, tmp_path / "r.json", csv=tmp_path / "r.csv")
    count = sum(len(detections_of(name)) for name in names)
    assert outcomes[0] == Outcome(None, len(names), count, len(names), 0)
    assert all(outcome == Outcome() for outcome in outcomes[1:])
    assert ((tmp_path / "r.json").read_bytes(), (tmp_path / "r.csv").read_bytes()) == expected(tmp_path, names)
    assert sorted(name for work in works for name in work.detected) == sorted(names)
    assert not (tmp_path / "r.json.parts").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["expected.csv", "expected.json", "r.csv", "r.json"]
    assert all(not one.progress and not one.failures for one in said[1:])


def test_least_score(tmp_path: Path) -> None:
    predict_alone(MadeUpWork(NAMES), tmp_path / "r.json", min_score=0.5)
    results = json.loads((tmp_path / "r.json").read_text())["results"]
    scores = [record["score"] for records in results.values() for record in records]
    assert list(results) == list(NAMES)
    assert sorted(scores) == sorted(s for name in NAMES for s in detections_of(name).scores.tolist() if s >= 0.5)


# Going on


def interrupted(output: Path, after: int, names: dict[str, int] = NAMES, **options: Any) -> list[str]:
    """A run of one process that ends after so many recordings; these."""

    class Ended(BaseException):
        """As Ctrl-C."""

    def pause(name: str) -> None:
        if len(work.detected) >= after:
            raise Ended

    work = MadeUpWork(names, pause=pause, **options)
    with pytest.raises(Ended):
        predict_alone(work, output)
    return list(work.detected)


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("after", [1, 6, 12])
def test_what_is_finished_is_not_predicted_again(tmp_path: Path, after: int, processes: int) -> None:
    first = interrupted(tmp_path / "r.json", after)
    works = [MadeUpWork(NAMES) for _ in range(processes)]
    outcomes, said = predict_in_threads(works, tmp_path / "r.json", csv=tmp_path / "r.csv")
    assert outcomes[0].predicted == len(NAMES) - after  # type: ignore[union-attr]
    assert said[0].begun == [(after, len(NAMES))]
    assert sorted(first + [name for work in works for name in work.detected]) == sorted(NAMES)
    assert ((tmp_path / "r.json").read_bytes(), (tmp_path / "r.csv").read_bytes()) == expected(tmp_path)


def test_nothing_finished_leaves_nothing(tmp_path: Path) -> None:
    interrupted(tmp_path / "r.json", 0)
    assert list(tmp_path.iterdir()) == []


def test_a_batch_that_is_not_whole_is_predicted_again_as_a_whole(tmp_path: Path) -> None:
    """So that it is computed as it would have been without the interruption."""
    first = interrupted(tmp_path / "r.json", 2)  # one by one
    work = MadeUpWork(NAMES, batch_size=3)
    predict_alone(work, tmp_path / "r.json")
    whole = {NAMES[name] for name in first}
    assert len(whole) < 3
    assert len(work.detected) == len(NAMES)
    assert (tmp_path / "r.json").read_bytes() == expected(tmp_path)[0]


def parts_of(folder: Path) -> list[Path]:
    return sorted((folder / "r.json.parts").glob("*.jsonl"))


def test_torn_and_double_lines(tmp_path: Path) -> None:
    first = interrupted(tmp_path / "r.json", 5)
    (part,) = parts_of(tmp_path)
    content = part.read_bytes()
    part.write_bytes(content[:-9])  # the last one is torn
    (part.parent / "other-0-1.jsonl").write_bytes(content.splitlines(keepends=True)[0])  # the first one twice
    work = MadeUpWork(NAMES)
    assert predict_alone(work, tmp_path / "r.json").recordings == len(NAMES)
    assert sorted(work.detected) == sorted([*(set(NAMES) - set(first)), first[-1]])
    assert (tmp_path / "r.json").read_bytes() == expected(tmp_path)[0]


CHANGES = [
    pytest.param({"lengths": {**NAMES, "rec 0": 49}}, id="another length"),
    pytest.param({"changes": {"rec 0": 4e9}}, id="newer features"),  # of 2096: after any part, however long tests run
]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_recordings_are_predicted_again(tmp_path: Path, change: dict[str, Any]) -> None:
    names = {**NAMES, "rec 0": 50}  # the longest comes first
    finished = interrupted(tmp_path / "r.json", 12, names)
    assert finished[0] == "rec 0"
    work = MadeUpWork(**{"lengths": names, "flavour": "new ", **change})
    outcome = predict_alone(work, tmp_path / "r.json")
    assert sorted(work.detected) == sorted({"rec 0", *names} - set(finished[1:]))
    assert outcome.predicted == 2
    results = json.loads((tmp_path / "r.json").read_text())["results"]
    for name, records in results.items():
        now = detections_of(("new " if name in work.detected else "") + name)
        assert [record["score"] for record in records] == sorted(now.scores.tolist(), reverse=True)


def test_recordings_may_come_and_go(tmp_path: Path) -> None:
    finished = interrupted(tmp_path / "r.json", 12)
    names = {**{name: length for name, length in NAMES.items() if name != finished[0]}, "new": 5}
    work = MadeUpWork(names)
    predict_alone(work, tmp_path / "r.json")
    assert set(work.detected) == set(names) - set(finished)
    assert (tmp_path / "r.json").read_bytes() == expected(tmp_path, names)[0]


OTHER_SETTINGS = [
    pytest.param({**SETTINGS, "digests": {"the checkpoint": "abd"}}, "the content of the checkpoint is", id="digest"),
    pytest.param({**SETTINGS, "digests": {}}, "the content of the checkpoint is another", id="no digest"),
    pytest.param({**SETTINGS, "test_cfg": {"max_seg_num": 8}}, r"test_cfg.max_seg_num was 7 and is now 8", id="nested"),
    pytest.param({"digests": SETTINGS["digests"]}, r"test_cfg was .* and is now None", id="missing"),
    pytest.param({**SETTINGS, "fps": 5.0}, "fps was None and is now 5.0", id="new"),
]


@pytest.mark.parametrize(("settings", "message"), OTHER_SETTINGS)
def test_parts_of_other_settings(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    interrupted(tmp_path / "r.json", 5)
    before = parts_of(tmp_path)[0].read_bytes()
    with pytest.raises(UsageError, match=f"finished with other settings: {message}.*; go on .* --force"):
        predict_alone(MadeUpWork(NAMES), tmp_path / "r.json", settings=settings)
    assert parts_of(tmp_path)[0].read_bytes() == before
    work = MadeUpWork(NAMES)
    predict_alone(work, tmp_path / "r.json", settings=settings, force=True)
    assert len(work.detected) == len(NAMES)


def test_settings_without_a_finished_recording_bind_nobody(tmp_path: Path) -> None:
    interrupted(tmp_path / "r.json", 5)
    parts_of(tmp_path)[0].unlink()  # as if killed in its first batch
    assert predict_alone(MadeUpWork(NAMES), tmp_path / "r.json", settings={"fps": 5.0}).predicted == len(NAMES)


def test_force_goes_on_where_the_settings_are_the_same(tmp_path: Path) -> None:
    first = interrupted(tmp_path / "r.json", 5)
    work = MadeUpWork(NAMES)
    predict_alone(work, tmp_path / "r.json", force=True)
    assert set(work.detected) == set(NAMES) - set(first)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "r.json.parts").mkdir()
    (tmp_path / "r.json.parts" / "thesis.txt").write_text("words")
    for force in (False, True):
        with pytest.raises(UsageError, match="holds something else"):
            predict_alone(MadeUpWork(NAMES), tmp_path / "r.json", force=force)
    assert (tmp_path / "r.json.parts" / "thesis.txt").read_text() == "words"


@pytest.mark.parametrize("text", ["{", '"words"', ""], ids=["torn", "no object", "empty"])
def test_damaged_settings(tmp_path: Path, text: str) -> None:
    interrupted(tmp_path / "r.json", 5)
    (tmp_path / "r.json.parts" / "settings.json").write_text(text)
    with pytest.raises(EventideError, match=r"settings\.json is damaged|other settings"):
        predict_alone(MadeUpWork(NAMES), tmp_path / "r.json")


@pytest.mark.parametrize("place", ["table", "results", "removal"])
def test_ended_while_the_results_are_written(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended(BaseException):
        """As kill -9."""

    def ended(*arguments: Any) -> None:
        raise Ended

    targets = {
        "table": (predict_run, "write_records_csv"),
        "results": (predict_run, "write_result_texts"),
        "removal": (PartFolder, "remove"),
    }
    with monkeypatch.context() as patch:
        patch.setattr(*targets[place], ended)
        with pytest.raises(Ended):
            predict_alone(MadeUpWork(NAMES), tmp_path / "r.json", csv=tmp_path / "r.csv")
    folder = PartFolder(tmp_path / "r.json")
    assert folder.path.exists()
    for name, there in (("r.csv", place != "table"), ("r.json", place == "removal")):
        assert (tmp_path / name).exists() == there
        assert folder.is_of_merge(tmp_path / name) == there
    work = MadeUpWork(NAMES)
    predict_alone(work, tmp_path / "r.json", csv=tmp_path / "r.csv")
    assert work.detected == []
    assert ((tmp_path / "r.json").read_bytes(), (tmp_path / "r.csv").read_bytes()) == expected(tmp_path)
    assert not folder.path.exists()


def test_results_from_before_the_run_are_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("{}")
    interrupted(tmp_path / "r.json", 5)
    assert not PartFolder(tmp_path / "r.json").is_of_merge(tmp_path / "r.json")


# What goes wrong


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_others_finish_their_share(tmp_path: Path, place: int) -> None:
    shares = share_out([MadeUpWork(NAMES).cost(number) for number in range(len(NAMES))], 3)
    order = MadeUpWork(NAMES)
    mine = [order.ids[order.batches[number][0]] for number in shares[place]]
    broken = mine[1]
    works = [MadeUpWork(NAMES, broken=(broken,)) for _ in range(3)]
    outcomes, said = predict_in_threads(works, tmp_path / "r.json")
    assert [bool(one.failures) for one in said] == [rank == place for rank in range(3)]
    assert said[place].failures == [f"{broken}.npy: values are NaN"]
    assert isinstance(outcomes[place].error, EventideError)  # type: ignore[union-attr]
    assert [len(work.detected) for work in works] == [1 if r == place else len(shares[r]) for r in range(3)]
    left = len(mine) - 1
    assert place == 0 or outcomes[0].incomplete == left  # type: ignore[union-attr]
    assert not (tmp_path / "r.json").exists()
    again = [MadeUpWork(NAMES) for _ in range(2)]
    assert predict_in_threads(again, tmp_path / "r.json")[0][0].predicted == left  # type: ignore[union-attr]
    assert (tmp_path / "r.json").read_bytes() == expected(tmp_path)[0]


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: PartWriter, lines: Any) -> None:
        raise OSError(28, "No space left on device", str(self.path))

    monkeypatch.setattr(PartWriter, "write", full)
    said = Said()
    outcome = predict_alone(MadeUpWork(NAMES), tmp_path / "r.json", said=said)
    assert isinstance(outcome.error, OSError)
    assert "No space left" in said.failures[0]


def test_two_runs_at_a_time_are_refused(tmp_path: Path) -> None:
    reached, leave = threading.Event(), threading.Event()

    def pause(name: str) -> None:
        reached.set()
        leave.wait(20)

    first = threading.Thread(target=predict_alone, args=(MadeUpWork(NAMES, pause=pause), tmp_path / "r.json"))
    first.start()
    reached.wait(20)
    try:
        for force in (False, True):
            with pytest.raises(EventideError, match=r"another run \(process .*:\d+\) is predicting these recordings"):
                predict_alone(MadeUpWork(NAMES), tmp_path / "r.json", force=force)
    finally:
        leave.set()
        first.join()
    assert (tmp_path / "r.json").read_bytes() == expected(tmp_path)[0]


@pytest.mark.parametrize("processes", [1, 3])
def test_a_file_system_without_locks(tmp_path: Path, processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*arguments: Any) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", no_locks)
    interrupted(tmp_path / "r.json", 4)
    works = [MadeUpWork(NAMES) for _ in range(processes)]
    outcomes, _ = predict_in_threads(works, tmp_path / "r.json")
    assert outcomes[0].predicted == len(NAMES) - 4  # type: ignore[union-attr]
    assert (tmp_path / "r.json").read_bytes() == expected(tmp_path)[0]


def test_processes_must_see_the_same_recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_together, "LATE", 0.5)
    works = [MadeUpWork(NAMES), MadeUpWork({**NAMES, "rec 3": 77})]
    outcomes, _ = predict_in_threads(works, tmp_path / "r.json")
    wrong = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert len(wrong) == 1
    assert "sees other recordings or lengths than the one that came first (13 here, 13 there)" in str(wrong[0])


def test_a_name_of_a_start_that_was_used_before(tmp_path: Path) -> None:
    """Two starts of torchrun may look alike: the second one must not take the first one's shares for its own."""
    broken = [MadeUpWork(NAMES, broken=tuple(NAMES)), MadeUpWork(NAMES, broken=tuple(NAMES))]
    predict_in_threads(broken, tmp_path / "r.json", key="same")
    works = [MadeUpWork(NAMES) for _ in range(2)]
    outcomes, _ = predict_in_threads(works, tmp_path / "r.json", key="same")
    assert outcomes[0].incomplete == 0  # type: ignore[union-attr]
    assert (tmp_path / "r.json").read_bytes() == expected(tmp_path)[0]


def test_memory_does_not_grow_with_recordings(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        names = {f"rec{index}": 5 for index in range(count)}
        work = MadeUpWork(names)
        big = detections_of("rec 1").take(np.zeros(400, dtype=np.int64))
        work.detect = lambda batches: ([(work.ids[number], big)] for number in batches)  # type: ignore[method-assign]
        tracemalloc.start()
        predict_alone(work, tmp_path / f"{count}.json")
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    small, large = peak(10), peak(150)
    size = (tmp_path / "150.json").stat().st_size
    assert size > 4_000_000
    assert large - small < 0.1 * size
