"""Pretrained models of the transformers package, fine-tuned in both stages like any other model.

Both kinds:

    tower_model.py          what both share: images in, features cached, state and actions
    vision_encoders.py      a frozen tower, or the raw pixels, as a `VisionEncoder`
    image_preprocessing.py  camera images -> what a tower takes
    state_scaling.py        proprioception scaled by the quantiles of the demonstrations
    loading.py              a hub id or folder -> the pretrained model, or why it cannot be loaded
    memory_check.py         whether a model fits into memory, checked before its weights are read

Vision-language models:

    families.py         differences between PaliGemma, Idefics3, SmolVLM and Qwen-VL
    prompts.py          instructions -> tokens of the action prompt and the steps-to-go prompt
    attention_masks.py  masks and positions with which both prompts share one pass
    vlm.py              the model itself: outputs as added tokens, exact log-probabilities

Dual encoders:

    towers.py                differences between CLIP, SigLIP and SigLIP 2
    text_tokens.py           instructions -> tokens of a text tower
    attention_pooling.py     queries of an instruction attend to image patches; trained on top
    dual_encoder.py          the model itself
    dual_encoder_loading.py  the pretrained model, or a checkpoint of it
"""
