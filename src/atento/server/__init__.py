"""The local web app: readings and their maps, on this machine alone."""

__all__: list[str] = []
