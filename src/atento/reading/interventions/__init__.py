"""What can be changed in a model's attention while it runs, one kind per file."""
# ruff: noqa: E402 - a missing torch is asked for in words, before anything imports it

from atento._optional import require

require("torch", "to change a model's attention")

from atento.reading.interventions.boost import Boost
from atento.reading.interventions.intervention import Intervention
from atento.reading.interventions.knock_out import KnockOut
from atento.reading.interventions.knock_out_edges import KnockOutEdges
from atento.reading.interventions.replace_pattern import Replace
from atento.reading.interventions.temperature import Temperature

__all__ = ["Boost", "Intervention", "KnockOut", "KnockOutEdges", "Replace", "Temperature"]
