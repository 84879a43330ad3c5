"""What a run leaves on disk and on the Hugging Face hub."""
