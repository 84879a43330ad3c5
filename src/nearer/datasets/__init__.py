"""Data sets on disk: LeRobotDataset v3.0, read and written with pyarrow and PyAV alone."""
