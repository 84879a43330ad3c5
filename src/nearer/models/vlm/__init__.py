"""Vision-language models of the transformers package, fine-tuned and practised like any other.

config.py    the settings
families.py  what PaliGemma, Idefics3, SmolVLM and Qwen-VL do differently
pictures.py  camera pictures -> what a vision tower takes
prompts.py   instructions -> tokens of the two questions
source.py    a hub id or folder -> the pretrained model, or a sentence why it cannot serve
vlm.py       the model itself: answers as added tokens, exact log-probabilities
"""
