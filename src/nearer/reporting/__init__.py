"""What people look at: model cards, recordings, videos and the HTML report."""
