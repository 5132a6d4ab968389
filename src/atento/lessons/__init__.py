"""Lessons: eight notebooks on attention, and the check that answers their questions.

The notebooks stand in ``lessons/`` of the repository and, in an installed package, beside this
file. ``atento lessons`` lists them and opens one.
"""

from atento.lessons.answers import Verdict, check
from atento.lessons.shelf import Lesson, lessons, take

__all__ = ["Lesson", "Verdict", "check", "lessons", "take"]
