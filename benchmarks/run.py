"""The whole speed table: network, NMS, segment mAP, matrix rate.

python -m benchmarks.run [--published /path/to/actionformer_release] [--runs N]
"""

from __future__ import annotations

import subprocess
import sys

from benchmarks.common import arguments

PARTS = ["benchmarks.network", "benchmarks.nms", "benchmarks.segment_map", "benchmarks.matrix_rate"]


def main() -> None:
    """Run every part in a process of its own, so that none inherits another's caches."""
    options = arguments(__doc__, runs=0).parse_args()
    failed = []
    for part in PARTS:
        words = [sys.executable, "-m", part]
        words += ["--published", options.published] if options.published else []
        words += ["--runs", str(options.runs)] if options.runs else []
        print(f"== {part}", flush=True)
        if subprocess.run(words, check=False).returncode:
            failed.append(part)
    if failed:
        sys.exit(f"error: {', '.join(failed)} failed")


if __name__ == "__main__":
    main()
