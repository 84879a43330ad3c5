"""Foundation models behind the contract of `nearer.model`, one a file."""
