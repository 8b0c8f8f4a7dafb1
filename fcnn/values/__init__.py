"""What everything else is made of: arrays and who owns them, immutable trees, keys for randomness, files, checks."""
