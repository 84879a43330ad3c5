"""ALOHA in simulation: two ViperX arms that insert a peg or hand over a cube."""
