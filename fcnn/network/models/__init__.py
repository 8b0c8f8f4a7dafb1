"""Networks that have a name. Each is a plain function that returns a layer."""

from fcnn.network.models.airbenches import airbench
from fcnn.network.models.lenet import lenet5, lenet5_bn
from fcnn.network.models.mobilenet import mobilenet_v2
from fcnn.network.models.resnet import resnet18, resnet_cifar
from fcnn.network.models.squeezenet import squeezenet1_1
from fcnn.network.models.vgg import vgg11

__all__ = ["airbench", "lenet5", "lenet5_bn", "mobilenet_v2", "resnet18", "resnet_cifar", "squeezenet1_1", "vgg11"]
