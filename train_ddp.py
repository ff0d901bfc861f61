"""Train in several processes: `torchrun --nproc_per_node=N train_ddp.py CONFIG`; `--help` lists everything."""

import sys

from eventide.cli import make_app, run
from eventide.cli.train_ddp import train_ddp

app = make_app("train_ddp.py", "Train a model in several processes.")
app.default(train_ddp)

if __name__ == "__main__":
    sys.exit(run(app))
