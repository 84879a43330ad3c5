"""Stands in for lerobot: the same interface of robots and cameras, and no hardware."""
