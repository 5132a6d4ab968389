"""The lessons: sources in two languages, and what pairs, runs and compares them.

Each lesson is a percent file (jupytext) in ``en/`` and in ``es/``, with the same code cells. The
notebooks beside them are made of them (``python -m lessons pair``), ``expected/`` holds what their
cells print (``python -m lessons expect``), ``solutions/`` what a right reader would write.
"""
