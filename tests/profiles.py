"""How much the tests try: by default a sample, with `FCNN_PROFILE=long` all of it, which takes hours."""

import os

LONG = os.environ.get("FCNN_PROFILE") == "long"
MORE = int(os.environ.get("FCNN_EXAMPLES", "20")) if LONG else 1  # times as many examples of each property
