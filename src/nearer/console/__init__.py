"""The console: a page on which one person watches and stops the robots of a run."""
