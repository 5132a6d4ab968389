"""What is folded over blocks of weights: update, merge, result."""

from atento.statistics.block import Block, Extent
from atento.statistics.diagonal import Own, Previous
from atento.statistics.distance import Distance
from atento.statistics.entropy import Entropy
from atento.statistics.maximum import Maximum
from atento.statistics.overview import Overview
from atento.statistics.query_sum import QuerySum
from atento.statistics.received import Received
from atento.statistics.statistic import Statistic, register, registered
from atento.statistics.survey import Survey, survey
from atento.statistics.token_match import Duplicate, Induction
from atento.statistics.top_k import TopK
from atento.statistics.weight_on import First, WeightOn
from atento.statistics.wishes import as_statistics, default_statistics

__all__ = [
    "Block",
    "Distance",
    "Duplicate",
    "Entropy",
    "Extent",
    "First",
    "Induction",
    "Maximum",
    "Overview",
    "Own",
    "Previous",
    "QuerySum",
    "Received",
    "Statistic",
    "Survey",
    "TopK",
    "WeightOn",
    "as_statistics",
    "default_statistics",
    "register",
    "registered",
    "survey",
]
