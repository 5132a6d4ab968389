"""Reading the attention of any model: the ways in, and what is kept."""

__all__: list[str] = []
