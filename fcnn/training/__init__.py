"""Training: losses, optimizers, the pure step and its fold, several cores or machines, checkpoints."""
