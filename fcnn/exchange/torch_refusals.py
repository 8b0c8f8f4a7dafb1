"""What is said of files that `load_torch` doesn't take: what they are, or what in them would have to be run."""

import re
from pathlib import Path

from fcnn.values.kinds import looks_like
from fcnn.values.pickles import ForeignError

_ALONE = "torch.save(model.state_dict(), path)"
_DTYPES = "float16, bfloat16, float32, float64, complex64, complex128, int8 to int64, uint8 to uint64 and bool are read"
_DTYPE = re.compile(r"torch\.(b?float|complex|q?u?int|bits)[0-9]\w*")


def of_other_file(path: Path, head: bytes) -> str:
    """What a file is that begins as none of PyTorch's does."""
    if head[257:262] == b"ustar":
        return "PyTorch 0.1's tar format, which isn't read; load it with an old PyTorch and save it again"
    if seen := looks_like(path, "PyTorch"):
        return f"no PyTorch file; {seen}"
    return f"no PyTorch file: it begins with {head[:8]!r}" if head else "no PyTorch file: it is empty"


def of_name(error: ForeignError) -> str:
    """What a file holds that names something which isn't known."""
    name = error.name
    if _DTYPE.fullmatch(name):
        return f"it has numbers of {name}, which aren't read; {_DTYPES}: where PyTorch is, save value.float()"
    if name.startswith(("torch._utils._rebuild_", "torch._tensor._rebuild_")) or name.endswith("Storage"):
        return (
            f"it has tensors that need {name}, which isn't known; dense ones of plain numbers are read: where PyTorch "
            "is, save those, such as value.to_dense() or value.dequantize()"
        )
    if error.is_first or name.startswith("torch.nn."):
        return (
            f"it needs {name} to be run, as networks do that were pickled whole; where PyTorch is, save its values "
            f"alone: {_ALONE}"
        )
    return (
        f"it holds something of {name} beside its values, and nothing that a file names is run here; where PyTorch is, "
        f"save the values alone: {_ALONE}"
    )
