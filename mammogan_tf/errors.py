"""Errors that a user can cause. The command line prints them as one line and exits with status 1."""

__all__ = [
    "ConfigError",
    "DataError",
    "MammoganError",
    "ModelError",
    "ServingError",
    "first_line",
    "reason_of_tensorflow",
]


class MammoganError(Exception):
    """Base class. The message says what was expected, what was received and what to do, in one line."""


class ConfigError(MammoganError):
    """A hyper-parameter or a configuration file is not acceptable."""


class DataError(MammoganError):
    """A film, a mask, an annotation or a data folder is missing or broken."""


class ModelError(MammoganError):
    """A run or an exported model is missing, incomplete or of the wrong kind."""


class ServingError(MammoganError):
    """A server cannot start, cannot be reached, or refused a request."""


def first_line(error: BaseException) -> str:
    """The first line of an error, or its type where it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def reason_of_tensorflow(error: BaseException) -> str:
    """Why TensorFlow could not write a file, without the operation and the path that its message has around it."""
    return first_line(error).partition(" [Op:")[0].rpartition("; ")[2]
