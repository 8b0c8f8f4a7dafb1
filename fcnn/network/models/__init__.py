"""Networks that have a name. Each is a plain function that returns a layer."""

from fcnn.network.models.lenet import lenet5, lenet5_bn

__all__ = ["lenet5", "lenet5_bn"]
