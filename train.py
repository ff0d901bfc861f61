"""Train on one device: `python train.py CONFIG --output NAME`; `--help` lists everything."""

import sys

from eventide.cli import make_app, run
from eventide.cli.train import train

app = make_app("train.py", "Train a model.")
app.default(train)

if __name__ == "__main__":
    sys.exit(run(app))
