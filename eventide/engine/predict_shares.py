"""Which process predicts what: equal shares of unequal batches."""

from __future__ import annotations

import heapq
from collections.abc import Sequence


def share_out(costs: Sequence[float], processes: int) -> list[list[int]]:
    """Indices into `costs` for each process, rising: each piece, the dearest first, goes to the process that has
    least to do (of several, the first). Every index comes exactly once; the same arguments give the same shares.

    No process gets more than the average plus one piece, whatever the costs.
    """
    shares: list[list[int]] = [[] for _ in range(processes)]
    least = [(0.0, process) for process in range(processes)]
    for index in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        load, process = least[0]
        shares[process].append(index)
        heapq.heapreplace(least, (load + costs[index], process))
    return [sorted(share) for share in shares]
