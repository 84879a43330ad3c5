"""The paper's method; knows no disk, no env and no command line."""
