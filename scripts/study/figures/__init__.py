"""What the findings look like: a file of figures each for training, sweeps, and the inside of the network."""
