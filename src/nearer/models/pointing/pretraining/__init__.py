"""Joint vision-language pretraining of the built-in vision encoder, on rendered scenes."""
