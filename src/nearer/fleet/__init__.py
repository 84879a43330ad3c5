"""Fleets: robots or simulators behind the `Fleet` contract of `nearer.protocols`."""
