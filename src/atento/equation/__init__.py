"""The equation: one front door, and the engines that compute it.

weights = softmax(mask(softcap(Q Kᵀ · scale) + bias))        output = weights V
"""

from atento.equation.front import attention, plan, trace
from atento.equation.plan import Plan

__all__ = ["Plan", "attention", "plan", "trace"]
