"""How large Wan's models are, and a clip for them: what every engine of them is measured by."""

from __future__ import annotations

from dataclasses import dataclass

TEXT_TOKENS = 512


@dataclass(frozen=True)
class Layout:
    """A transformer's dimensions, as `WanTransformer3DModel` takes them."""

    heads: int
    head_dim: int
    layers: int
    ffn_dim: int
    text_dim: int

    @property
    def width(self) -> int:
        """Of the hidden states."""
        return self.heads * self.head_dim

    @property
    def settings(self) -> dict[str, int]:
        """By diffusers' names."""
        return {
            "num_attention_heads": self.heads,
            "attention_head_dim": self.head_dim,
            "num_layers": self.layers,
            "ffn_dim": self.ffn_dim,
            "text_dim": self.text_dim,
        }


WAN_1_3B = Layout(heads=12, head_dim=128, layers=30, ffn_dim=8960, text_dim=4096)
WAN_14B = Layout(heads=40, head_dim=128, layers=40, ffn_dim=13824, text_dim=4096)
WAN_5B = Layout(heads=24, head_dim=128, layers=30, ffn_dim=14336, text_dim=4096)
TINY = Layout(heads=2, head_dim=12, layers=2, ffn_dim=32, text_dim=16)


@dataclass(frozen=True)
class TextLayout:
    """An encoder's dimensions, as `UMT5Config` takes them."""

    d_model: int
    num_heads: int
    d_kv: int
    d_ff: int
    num_layers: int
    vocab_size: int


UMT5_XXL = TextLayout(4096, num_heads=64, d_kv=64, d_ff=10240, num_layers=24, vocab_size=256384)


@dataclass(frozen=True)
class Size:
    """A clip's size in pixels and frames; compression 4x8x8, patches 1x2x2."""

    width: int
    height: int
    frames: int

    @property
    def latent(self) -> tuple[int, int, int]:
        """Latent frames, height and width."""
        return (self.frames - 1) // 4 + 1, self.height // 8, self.width // 8

    @property
    def tokens(self) -> int:
        """How many tokens the denoiser sees."""
        frames, height, width = self.latent
        return frames * (height // 2) * (width // 2)

    @property
    def name(self) -> str:
        """As in "832x480x81"."""
        return f"{self.width}x{self.height}x{self.frames}"


def operations(layout: Layout, tokens: int, text: int = TEXT_TOKENS) -> float:
    """Floating-point operations of one forward pass: the blocks' matrices and attentions."""
    d = layout.width
    own = 8 * tokens * d * d + 4 * tokens * tokens * d
    cross = 4 * tokens * d * d + 4 * text * d * d + 4 * tokens * text * d
    return float(layout.layers * (own + cross + 4 * tokens * d * layout.ffn_dim))


def text_operations(layout: TextLayout, tokens: int = TEXT_TOKENS) -> float:
    """Floating-point operations of one prompt: matrices, the gated layer's three, attentions."""
    inner = layout.num_heads * layout.d_kv
    matrices = 4 * layout.d_model * inner + 3 * layout.d_model * layout.d_ff
    return float(layout.num_layers * (2 * tokens * matrices + 4 * tokens * tokens * inner))
