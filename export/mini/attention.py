"""Attention for training on a CPU, where PyTorch's own is slow to go back through.

Several times as fast there as `scaled_dot_product_attention`, in parts or fused, forward and
backward in bfloat16 at the sizes of the embedded model (docs/lab.md).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class CpuAttention(TorchFunctionMode):
    """Within, `scaled_dot_product_attention` is `attention`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Any other function is left alone."""
        chosen = attention if func is functional.scaled_dot_product_attention else func
        return chosen(*args, **(kwargs or {}))


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """As PyTorch's of that name, of (batch, heads, tokens, width), a mask being what is added.

    There is no dropout, and no mask but `attn_mask`.
    """
    assert dropout_p == 0
    assert not is_causal
    assert not enable_gqa
    half = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
    parts = [part.to(half) for part in (query, key, value)]
    bias = None if attn_mask is None else attn_mask.to(half)
    made: Tensor = _Attention.apply(*parts, bias, scale or query.shape[-1] ** -0.5)  # type: ignore[no-untyped-call]
    return made


class _Attention(torch.autograd.Function):
    """Batched products of contiguous matrices; the softmax widens what it reads by itself."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float
    ) -> Tensor:
        """What the queries gather, (batch, heads, queries, width)."""
        batch, heads, tokens, _ = query.shape
        q, k, v = (query * scale).flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1)
        scores = torch.bmm(q, k.transpose(1, 2))
        if bias is not None:
            scores = (scores.view(batch, heads, tokens, -1) + bias).flatten(0, 1)
        weights = scores.softmax(-1)
        ctx.save_for_backward(q, k, v, weights)
        ctx.scale, ctx.shape = scale, (batch, heads, -1, q.shape[-1])
        return torch.bmm(weights, v).view(batch, heads, tokens, -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of query, key and value."""
        q, k, v, weights = ctx.saved_tensors
        made = gradients[0].flatten(0, 1).to(v.dtype)
        of_weights = torch.bmm(made, v.transpose(1, 2))
        through = torch.ops.aten._softmax_backward_data  # noqa: SLF001  it has no public name
        of_scores = through(of_weights, weights, -1, weights.dtype)
        of_query = torch.bmm(of_scores, k) * ctx.scale
        of_key = torch.bmm(of_scores.transpose(1, 2), q)
        of_value = torch.bmm(weights.transpose(1, 2), made)
        found = (part.view(ctx.shape) for part in (of_query, of_key, of_value))
        return (*found, None, None)
