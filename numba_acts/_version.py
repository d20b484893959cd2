"""The version, for what is built, what is cached and what is reported."""

__version__ = "0.1.0"
