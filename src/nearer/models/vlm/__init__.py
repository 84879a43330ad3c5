"""Pretrained models of the transformers package, fine-tuned and practised like any other.

Both kinds:

config.py    the settings
towered.py   pictures in, features kept, state and actions
sight.py     a frozen tower, or the bare pictures, as a sight
pictures.py  camera pictures -> what a tower takes
state.py     a robot's numbers between the quantiles of the demonstrations
source.py    a hub id or folder -> the pretrained model, or a sentence why it cannot serve
memory.py    whether it fits, told before its weights are read

Vision-language models:

families.py  what PaliGemma, Idefics3, SmolVLM and Qwen-VL do differently
prompts.py   instructions -> tokens of the two questions
reading.py   which token sees which, when both questions are read at once
vlm.py       the model itself: answers as added tokens, exact log-probabilities

Dual encoders:

towers.py       what CLIP, SigLIP and SigLIP 2 do differently
sentences.py    instructions -> tokens of a text tower
looking.py      queries made of a sentence attend to patches: what is trained on top
dual.py         the model itself
dual_source.py  the pretrained model, or a checkpoint of it
"""
