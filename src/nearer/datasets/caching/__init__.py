"""Arrays that are computed once and kept on disk: frames, encodings, trained weights, results."""
