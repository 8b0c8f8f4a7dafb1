"""Networks and their values to and from the files of other programs, with NumPy alone."""
