"""Recipes (functions that return the configs of a whole run), and studies made of them."""
