"""The one place that knows the version; imports nothing so that `setup.cfg` and `doctor` can read it."""

__version__ = "0.1.0"
