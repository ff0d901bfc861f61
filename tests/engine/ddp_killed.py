"""Kill processes of a training under torchrun with SIGKILL, again and again, and compare it with an undisturbed one.

    python -m tests.engine.ddp_killed --kills 30 --processes 2

`torchrun --max-restarts` is started once; nobody helps it. Killed is a random process at a random moment, every fourth
time while the processes start, otherwise some steps later. In the end the weights must equal those of the undisturbed
run to the bit, the logs must be the same, and no process, listening port or temporary file may be left.
With `--loaders 1` every process has a loader process, and those are killed too.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.engine.family import Family, Member
from tests.engine.killed import REPOSITORY, STEPS_PER_EPOCH, Killed
from tests.engine.several.pool import free_port

MOST_STEPS = 8  # between two kills; half of it on average, and as many are left for what is done until the signal
START_SECONDS = 6.0  # about what the processes take until their first step
PATIENCE = 300  # seconds for anything to happen


class Elastic(Killed):
    """Both runs under torchrun."""

    def __init__(self, folder: Path, kills: int, processes: int, seed: int, loaders: int = 0) -> None:
        # a step takes a batch from each process, so an epoch has fewer of them
        self.steps_per_epoch = -(-STEPS_PER_EPOCH // processes)
        epochs = -(-kills * 5 * MOST_STEPS // (4 * self.steps_per_epoch)) + 2
        super().__init__(folder, epochs, seed, loaders)
        self.total = epochs * self.steps_per_epoch
        self.kills, self.processes, self.loaders = kills, processes, loaders
        self.family, self.port = Family(), free_port()
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.killed: Counter[str] = Counter()

    def command(self, name: str) -> list[str]:
        words = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={self.processes}"]
        words += [f"--master_port={self.port}", f"--max-restarts={self.kills if name == 'killed' else 0}"]
        return [*words, str(REPOSITORY / "train_ddp.py")]

    def environment(self) -> dict[str, str]:
        return {**self.family.environment(), "TMPDIR": str(self.temporary)}

    def run_and_kill(self) -> None:
        """Start once, kill again and again, and let it come to its end."""
        agent = self.start("killed")
        try:
            for number in range(self.kills):
                victim = self._kill_once(agent, number)
                print(f"kill {number + 1}/{self.kills}: {victim}, {self.newest('killed')} of {self.total} steps done")
                sys.stdout.flush()
            if agent.wait(timeout=PATIENCE + self.total) != 0:
                raise SystemExit(self.printed("killed"))
        finally:
            self.family.kill()

    def _kill_once(self, agent: subprocess.Popen[bytes], restarts: int) -> str:
        """Kill one of the processes that run since so many restarts; says which."""
        self._wait(agent, lambda: len(self.family.workers(restarts)) == self.processes)
        starting = self.random.random() < 0.25
        if starting:
            time.sleep(self.random.uniform(0, START_SECONDS))
        else:
            goal = self.newest("killed") + self.random.randint(1, MOST_STEPS)
            self._wait(agent, lambda: self.newest("killed") >= goal)
            time.sleep(self.random.uniform(0, 0.3))
        victim, name = self._victim(restarts)
        if agent.poll() is not None:
            raise SystemExit(f"ended by itself: {self.printed('killed')}")
        victim.kill()
        self.killed[name] += 1
        self._wait(agent, lambda: not any(member.pid == victim.pid for member in self.family.members()))
        return f"{name}, {'at the start' if starting else 'in training'}"

    def _victim(self, restarts: int) -> tuple[Member, str]:
        workers, loaders = self.family.workers(restarts), self.family.loaders(restarts)
        if loaders and self.random.random() < 0.5:
            return self.random.choice(loaders), "a loader process"
        victim = self.random.choice(workers)
        return victim, f"process {victim.rank}"

    def _wait(self, agent: subprocess.Popen[bytes], happened: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not happened():  # type: ignore[operator]
            if agent.poll() is not None or time.monotonic() > end:
                raise SystemExit(
                    f"{'ended by itself' if agent.poll() is not None else 'hangs'}: {self.printed('killed')}"
                )
            time.sleep(0.01)

    def left_over(self) -> list[str]:
        """Processes, the port and temporary files; not the empty folder that torchrun itself leaves every time."""
        found = self.family.left()
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections are none that listen
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError:
                found.append(f"port {self.port} is in use")
        # torchrun leaves an empty folder even where nothing is killed; a loader process that dies by `kill -9` leaves
        # the folder of a socket, which Python makes for it and nobody else knows of.
        foreign = ("torchelastic_", "pymp-")
        left = [path for path in self.temporary.rglob("*") if not any(name in str(path) for name in foreign)]
        return [*found, *(f"{path} is left over" for path in left)]


def kill_test(folder: Path, kills: int, processes: int, seed: int, loaders: int = 0) -> list[str]:
    """Run the whole comparison in `folder`; what is wrong in the end, empty when nothing is."""
    runs = Elastic(folder, kills, processes, seed, loaders)
    runs.finish("whole")
    print(f"undisturbed: {runs.newest('whole')} steps", flush=True)
    runs.run_and_kill()
    print("killed: " + ", ".join(f"{name} {count} times" for name, count in sorted(runs.killed.items())))
    return [*runs.differences("whole", "killed"), *runs.left_over()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--loaders", type=int, default=0, choices=(0, 1))
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wrong = kill_test(Path(folder), options.kills, options.processes, options.seed, options.loaders)
    print("\n".join(wrong) if wrong else "the killed run equals the undisturbed one, and nothing is left of it")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
