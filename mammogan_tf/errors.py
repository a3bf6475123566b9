"""Errors that a user can cause. The command line prints them as one line and exits with status 1."""

__all__ = ["ConfigError", "DataError", "MammoganError", "ModelError", "ServingError"]


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
