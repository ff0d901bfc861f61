"""The processes that train together, and what they tell one another. Alone, all of it is free."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor

from eventide.engine.processes import Launch
from eventide.ops.problems import words_of_system
from eventide.types import AlreadySaidError, EventideError, UsageError

Result = TypeVar("Result")
# What the libraries underneath say when the process at the other end of a connection is gone.
LOST_PHRASES = (
    "connection closed by peer",
    "connection reset",
    "broken pipe",
    "socket closed",
    "remote process exit",
    "timed out waiting",
    "application timeout",
)


@dataclass(frozen=True)
class World:
    """`launch.size` processes that have found one another (`eventide.engine.rendezvous`). Every method is called by
    all of them, in the same order.
    """

    launch: Launch = Launch()  # noqa: RUF009  # frozen
    table: dist.Store | None = None  # of torchrun; it lives as long as the launch, through all restarts
    talk: dist.ProcessGroup | None = None  # for all but tensors, with time for long work of one process

    @property
    def rank(self) -> int:
        return self.launch.rank

    @property
    def size(self) -> int:
        return self.launch.size

    @property
    def is_first(self) -> bool:
        return self.launch.is_first

    def has_begun(self) -> bool:
        """Whether earlier processes of the same launch have begun the work; torchrun has started these in their place.

        Counted restarts do not tell: the earlier ones may have failed before, and a new machine counts from 0.
        """
        return self.from_first(self.table is not None and self.is_first and self.table.add("begun", 0) > 0)

    def begin(self) -> None:
        """Let `has_begun` be true from now on."""
        if self.table is not None and self.is_first:
            self.table.add("begun", 1)

    def sum(self, values: Tensor) -> Tensor:
        """`values` added up over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def everyone(self, value: Any) -> list[Any]:
        """What each process has given, by rank, known to all."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, self.talk)
        return found

    def collect(self, value: Any) -> list[Any] | None:
        """What each process has given, by rank, known to the first one alone."""
        if self.size == 1:
            return [value]
        found: list[Any] | None = [None] * self.size if self.is_first else None
        dist.gather_object(value, found, group=self.talk)
        return found

    def from_first(self, value: Result) -> Result:
        """What the first process has given."""
        if self.size == 1:
            return value
        box: list[Any] = [value]
        dist.broadcast_object_list(box, group=self.talk)
        return box[0]

    def together(self, work: Callable[[], Result]) -> Result:
        """Do `work` in every process; where it fails in one, it fails in all, and the first one says why.

        Raises:
            EventideError, UsageError: in the first process; names the processes where not all have failed.
            AlreadySaidError: in the others.
        """
        failure: EventideError | None = None
        result: Result | None = None
        try:
            result = work()
        except EventideError as error:
            failure = error
        except BrokenPipeError:  # the reader of our output has left, which the command answers
            raise
        except OSError as error:  # disk full, no permission: the others must not wait for this process
            failure = EventideError(words_of_system(error))
        failures = self.everyone(None if failure is None else (str(failure), isinstance(failure, UsageError)))
        self._raise_first(failures)
        return result  # type: ignore[return-value]

    def by_first(self, work: Callable[[], Result]) -> Result | None:
        """Do `work` in the first process; None in the others. Where it fails, all fail."""
        return self.together(lambda: work() if self.is_first else None)

    def _raise_first(self, failures: list[tuple[str, bool] | None]) -> None:
        failed = [rank for rank, failure in enumerate(failures) if failure is not None]
        if not failed:
            return
        message, is_usage = failures[failed[0]] or ("", False)
        if not self.is_first:
            raise AlreadySaidError(message, is_usage)
        if self.size > 1 and len(failed) < self.size and failed != [0]:
            message = f"process {', '.join(map(str, failed))} of {self.size}: {message}"
        raise (UsageError if is_usage else EventideError)(message)

    def same(self, what: str, value: Mapping[str, Any]) -> None:
        """Raise UsageError in all processes where `value`, plain and flat, differs between them; names what differs."""
        if self.size > 1:
            found = self.everyone(dict(value))
            self.together(lambda: refuse_differences(what, found))


def refuse_differences(what: str, found: list[dict[str, Any]]) -> None:
    for rank, other in enumerate(found):
        keys = [key for key in {**found[0], **other} if found[0].get(key) != other.get(key)]
        if keys:
            parts = [f"{key} is {found[0].get(key)!r} in process 0 and {other.get(key)!r} there" for key in keys[:5]]
            raise UsageError(f"process {rank} has {what} that differ: {', '.join(parts)}; start all with the same")


def is_lost_connection(error: BaseException) -> bool:
    """Whether another process has gone in the middle of a conversation."""
    if isinstance(error, dist.DistError | dist.DistBackendError | dist.DistNetworkError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error).lower() for phrase in LOST_PHRASES)


def in_short(error: BaseException) -> str:
    """What a library says, without its traces: the first line, and the one behind NCCL's "Last error:"."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    last = next((number for number, line in enumerate(lines) if line.startswith("Last error:")), len(lines))
    return " ".join([lines[0], *lines[last + 1 : last + 2]])
