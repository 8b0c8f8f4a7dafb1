"""What is run: cells, their plan for each scale, both frameworks, and the runner that keeps results as files."""
