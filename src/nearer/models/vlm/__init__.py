"""Pretrained models of the transformers package, fine-tuned and practised like any other.

Vision-language models:

config.py    the settings
families.py  what PaliGemma, Idefics3, SmolVLM and Qwen-VL do differently
pictures.py  camera pictures -> what a vision tower takes
prompts.py   instructions -> tokens of the two questions
source.py    a hub id or folder -> the pretrained model, or a sentence why it cannot serve
vlm.py       the model itself: answers as added tokens, exact log-probabilities

Dual encoders:

towers.py       what CLIP, SigLIP and SigLIP 2 do differently
sentences.py    instructions -> tokens of a text tower
looking.py      queries made of a sentence attend to patches: what is trained on top
dual.py         the model itself
dual_source.py  the pretrained model, or a checkpoint of it
"""
