"""What was computed, as frozen records: no arithmetic and no drawing here."""

from atento.records.explanation import AttentionLayer, Explanation, Projection, Reason
from atento.records.pictured import Pictured
from atento.records.trace import Step, Trace

__all__ = ["AttentionLayer", "Explanation", "Pictured", "Projection", "Reason", "Step", "Trace"]
