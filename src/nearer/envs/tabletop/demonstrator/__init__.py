"""The scripted demonstrator of the tabletop."""
