"""What the results say: numbers and verdicts, each worked out from the cells and nothing else."""
