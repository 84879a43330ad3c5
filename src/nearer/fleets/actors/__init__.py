"""Robots in processes of their own, each at its own pace, on this machine or on Ray."""
