"""Values and contracts that everything shares, in numpy alone: what a robot's machine loads."""
