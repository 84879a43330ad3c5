"""Recipes: functions that return a whole config."""
