"""The one error of files from elsewhere."""


class ExchangeError(ValueError):
    """A file of another program can't be taken; the message begins with the file's path and says why."""
