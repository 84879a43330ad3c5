"""The built-in pretrained vision-language encoder: it localises the objects a sentence names."""
