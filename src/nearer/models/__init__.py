"""Foundation models behind the contract of `nearer.algorithm.model`, one a file."""
