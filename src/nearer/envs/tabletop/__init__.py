"""The tabletop on MuJoCo: blocks on a board, a pusher, instructions in natural language."""
