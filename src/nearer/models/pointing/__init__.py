"""The built-in vision-language model: it points at what a sentence mentions."""
