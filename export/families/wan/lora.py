"""How LoRAs for Wan find its weights.

Source of the names: diffusers, `loaders/lora_conversion_utils.py` and
`scripts/convert_wan_to_diffusers.py`; Wan-Video/Wan2.1, `wan/modules/model.py`.
"""

from __future__ import annotations

from ....engine.manifest import LoraSpec

ROTATED = ("attn1.to_q", "attn1.to_k", "attn1.norm_q", "attn1.norm_k")
"""How the names of modules end that make rotary queries and keys."""

ATTENTIONS = {"attn1": "self_attn", "attn2": "cross_attn"}
PARTS = {
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "o",
    "norm_q": "norm_q",
    "norm_k": "norm_k",
}
BLOCK = {
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
    "norm2": "norm3",
    "scale_shift_table": "modulation",
}
ELSEWHERE = {
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "proj_out": "head.head",
    "scale_shift_table": "head.modulation",
}
IMAGE = {
    **{
        f"blocks.*.attn2.{ours}": f"blocks.*.cross_attn.{authors}"
        for ours, authors in {
            "add_k_proj": "k_img",
            "add_v_proj": "v_img",
            "norm_added_k": "norm_k_img",
        }.items()
    },
    "condition_embedder.image_embedder.norm1": "img_emb.proj.0",
    "condition_embedder.image_embedder.ff.net.0.proj": "img_emb.proj.1",
    "condition_embedder.image_embedder.ff.net.2": "img_emb.proj.3",
    "condition_embedder.image_embedder.norm2": "img_emb.proj.4",
}
"""Of models that attend to an image."""


def lora_spec(*, image: bool) -> LoraSpec:
    """What the bundle says of it; names that are the same for all are left out."""
    attentions = {
        f"{ours}.{part}": f"{theirs}.{authors}"
        for ours, theirs in ATTENTIONS.items()
        for part, authors in PARTS.items()
    }
    blocks = {f"blocks.*.{k}": f"blocks.*.{v}" for k, v in {**attentions, **BLOCK}.items()}
    return LoraSpec(rotary=ROTATED, aliases={**blocks, **ELSEWHERE, **(IMAGE if image else {})})
