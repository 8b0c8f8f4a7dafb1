"""How pictures are made into a network's inputs: a record that is the same for training and for predicting.

It travels with the network, as `{"pictures": {"channels": 3, "height": 32, "width": 32}}` in a model's meta, so that
predicting needs the file alone. `fcnn.data.pictures.prepare` does what it says.
"""

from collections.abc import Mapping
from typing import Any

import attrs

from fcnn.values.checks import integer, mapping, told

MOST_SIDE = 7_000  # pixels of a square in the greatest picture that is read
_NAME = "pictures"  # its place in a model's meta


@attrs.frozen
class Preprocessing:
    """Pictures become images uint8 (channels, height, width).

    A picture is laid over white where it is transparent, made grey or RGB, cropped to the greatest part in its middle
    that has the image's proportions, and scaled to the image's size, with anti-aliasing.

    channels: 1, grey, or 3, red, green and blue.
    height, width: pixels, 1 to 7,000.

    >>> Preprocessing(1, 28, 28).meta()
    {'pictures': {'channels': 1, 'height': 28, 'width': 28}}
    """

    channels: int = attrs.field()
    height: int = attrs.field()
    width: int = attrs.field()

    @channels.validator
    def _grey_or_colour(self, _: object, channels: Any) -> None:
        if integer("channels", channels, least=1) not in (1, 3):
            raise ValueError(f"channels is 1 (grey) or 3 (red, green, blue), got {told(channels)}")

    @height.validator
    @width.validator
    def _in_range(self, attribute: Any, value: Any) -> None:
        integer(attribute.name, value, least=1, most=MOST_SIDE)

    @property
    def shape(self) -> tuple[int, int, int]:
        """An image's shape (C, H, W)."""
        return self.channels, self.height, self.width

    def meta(self) -> dict[str, Any]:
        """What a model's meta says of it."""
        return {_NAME: attrs.asdict(self)}


def preprocessing_of(meta: Mapping[str, Any]) -> Preprocessing | None:
    """What a model's meta says of pictures; None where it says nothing.

    Raises ValueError where it says something else than `Preprocessing.meta` gives: the file was changed, or is of a
    later version.

    >>> preprocessing_of({"pictures": {"channels": 3, "height": 32, "width": 32}})
    Preprocessing(channels=3, height=32, width=32)
    """
    found = mapping("meta", meta, "a mapping, as model.meta is").get(_NAME)
    if found is None:
        return None
    names = [field.name for field in attrs.fields(Preprocessing)]
    try:
        if not isinstance(found, dict) or set(found) != set(names):
            raise ValueError(f"it has {', '.join(names)}, got {told(found)}")
        return Preprocessing(**found)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the model's meta doesn't say how pictures are prepared: {error}") from None
