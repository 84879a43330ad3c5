"""Arrays that are made of a data set once and kept on disk: frames, features, results."""
