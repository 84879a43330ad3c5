"""The tabletop: blocks on a board, a pusher, instructions in words, on MuJoCo."""
