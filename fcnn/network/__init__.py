"""Networks: the contract that a layer keeps, layers, what combines them, and how networks are shown and changed."""
