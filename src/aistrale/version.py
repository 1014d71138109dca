"""The version, and how we introduce ourselves to providers."""

__version__ = "0.1.0"
USER_AGENT = f"aistrale/{__version__}"
