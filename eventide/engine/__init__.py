"""Training, inference, checkpoints."""
