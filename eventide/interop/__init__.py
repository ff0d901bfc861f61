"""Published checkpoints and configurations of other tools."""
