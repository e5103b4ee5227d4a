"""Hypothesis on a machine that has other work: a slow example is no fault, and nothing is left in
the checkout.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

PATIENT = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
