"""Fleets: robots or simulators behind the `Fleet` contract of `nearer.core.interfaces`."""
