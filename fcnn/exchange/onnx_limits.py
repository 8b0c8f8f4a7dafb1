"""How much a file of ONNX may have of something: counted before it is made, so that no memory is taken in vain."""

import attrs

from fcnn.exchange.errors import ExchangeError


@attrs.define
class Allowance:
    """So much of something, all together; `told` is the error where more is asked for."""

    _left: int
    _told: str

    def take(self, count: int, where: object = "") -> None:
        """Count something before it is made, for a node if `where` is one. Raises ExchangeError beyond the limit."""
        if count > self._left:
            raise ExchangeError(f"{where}: {self._told}" if where else self._told)
        self._left -= count
