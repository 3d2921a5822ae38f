"""Architectures for the simplifier bench, as PyTorch modules beside an input: torchvision's, timm's and ours.

Images, depths and widths are small where an architecture allows it: the graph is what counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def image(size: int = 64, channels: int = 3) -> Any:
    """A batch of one random image."""
    import torch

    return torch.randn(1, channels, size, size)


def torchvision(name: str, size: int = 64, **options: Any) -> tuple[Any, Any]:
    """An architecture of torchvision, and an image for it."""
    import torchvision.models as models

    return models.get_model(name, weights=None, **options), image(size)


def timm(name: str, size: int = 64, **options: Any) -> tuple[Any, Any]:
    """An architecture of timm, and an image for it."""
    import timm

    return timm.create_model(name, pretrained=False, **options), image(size)


def mixer() -> tuple[Any, Any]:
    """Four blocks of timm's MLP-Mixer."""
    from timm.models.mlp_mixer import MlpMixer

    return MlpMixer(img_size=64, patch_size=16, num_blocks=4, embed_dim=96), image()


def first(model: Any) -> Any:
    """A module that gives the model's first result."""
    from torch import nn

    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Any) -> Any:
            return self.model(x)[0]

    return First()


def tokens(length: int = 16) -> Any:
    """A sentence of random words."""
    import torch

    return torch.randint(0, 100, (1, length))


def bert() -> tuple[Any, Any]:
    """BERT with two layers, without its pooler."""
    import transformers

    config = transformers.BertConfig(
        vocab_size=100, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
        max_position_embeddings=32, attn_implementation="eager",
    )  # fmt: skip
    return first(transformers.BertModel(config, add_pooling_layer=False)), tokens()


def distilbert() -> tuple[Any, Any]:
    """DistilBERT with two layers and PyTorch's own attention."""
    import transformers

    config = transformers.DistilBertConfig(
        vocab_size=100, dim=64, n_layers=2, n_heads=4, hidden_dim=128, max_position_embeddings=32
    )
    return first(transformers.DistilBertModel(config)), tokens()


def gpt() -> tuple[Any, Any]:
    """Two blocks of a decoder: causal attention, weights tied to the embedding."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, width: int, heads: int, length: int) -> None:
            super().__init__()
            self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            self.register_buffer("future", torch.triu(torch.full((length, length), float("-inf")), 1))

        def forward(self, x: Any) -> Any:
            n, length, width = x.shape
            q, k, v = (
                part.view(n, length, self.heads, -1).transpose(1, 2)
                for part in self.qkv(self.before(x)).split(width, -1)
            )
            scores = (q @ k.transpose(-2, -1)) / (width // self.heads) ** 0.5 + self.future
            x = x + self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, length, width))
            return x + self.down(nn.functional.gelu(self.up(self.after(x)), approximate="tanh"))

    class Decoder(nn.Module):
        def __init__(self, words: int = 100, width: int = 64, length: int = 16) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(words, width), nn.Parameter(torch.randn(length, width))
            self.blocks, self.norm = nn.Sequential(*(Block(width, 4, length) for _ in range(2))), nn.LayerNorm(width)

        def forward(self, x: Any) -> Any:
            return self.norm(self.blocks(self.words(x) + self.places)) @ self.words.weight.T

    return Decoder(), tokens()


def recurrent(kind: str) -> tuple[Any, Any]:
    """Features over time, two recurrent layers, a classifier of the last step."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.cells = nn.BatchNorm1d(8), getattr(nn, kind)(8, 24, 2, batch_first=True)
            self.out = nn.Linear(24, 10)

        def forward(self, x: Any) -> Any:
            return self.out(self.cells(self.norm(x).transpose(1, 2))[0][:, -1])

    return Net(), torch.randn(1, 8, 20)


def unet(upsample: str) -> tuple[Any, Any]:
    """Three levels; upsample: `deconv` (transposed convolution), `nearest` or `bilinear`. Ronneberger et al. 2015."""
    import torch
    from torch import nn

    def double(inputs: int, outputs: int) -> nn.Sequential:
        parts = (
            (nn.Conv2d(a, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())
            for a in (inputs, outputs)
        )
        return nn.Sequential(*(layer for part in parts for layer in part))

    def up(channels: int) -> nn.Module:
        if upsample == "deconv":
            return nn.ConvTranspose2d(channels, channels // 2, 2, 2)
        return nn.Sequential(nn.Upsample(scale_factor=2, mode=upsample), nn.Conv2d(channels, channels // 2, 1))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.ModuleList(double(a, b) for a, b in ((3, 8), (8, 16), (16, 32)))
            self.pool, self.ups = nn.MaxPool2d(2), nn.ModuleList(up(c) for c in (32, 16))
            self.back, self.out = nn.ModuleList(double(c, c // 2) for c in (32, 16)), nn.Conv2d(8, 4, 1)

        def forward(self, x: Any) -> Any:
            kept = []
            for i, layer in enumerate(self.down):
                x = layer(x if i == 0 else self.pool(x))
                kept.append(x)
            for i, (up_, back) in enumerate(zip(self.ups, self.back, strict=True)):
                x = back(torch.cat([kept[-2 - i], up_(x)], 1))
            return self.out(x)

    return Net(), image(32)


def detector() -> tuple[Any, Any]:
    """A feature pyramid over three scales, and heads for classes and boxes that share their weights. RetinaNet."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, width: int = 32, classes: int = 5) -> None:
            super().__init__()
            sizes = ((3, 16), (16, 32), (32, 64), (64, 64))
            self.body = nn.ModuleList(
                nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.SiLU()) for a, b in sizes
            )
            self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in (32, 64, 64))
            self.heads = nn.ModuleList(
                nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 3 * n, 3, padding=1))
                for n in (classes, 4)
            )

        def forward(self, x: Any) -> Any:
            levels = []
            for i, layer in enumerate(self.body):
                x = layer(x)
                levels.extend([self.lateral[i - 1](x)] if i else [])
            for i in (1, 0):
                levels[i] = levels[i] + nn.functional.interpolate(levels[i + 1], scale_factor=2.0, mode="nearest")
            flat = [
                torch.cat([h(v).permute(0, 2, 3, 1).reshape(v.shape[0], -1, n) for v in levels], 1)
                for h, n in zip(self.heads, (5, 4), strict=True)
            ]
            return flat[0].sigmoid(), flat[1]

    return Net(), image()


def superresolution() -> tuple[Any, Any]:
    """Sub-pixel convolution by a factor of 3. Shi et al. 2016."""
    from torch import nn

    layers = [nn.Conv2d(1, 32, 5, padding=2), nn.Tanh(), nn.Conv2d(32, 16, 3, padding=1), nn.Tanh()]
    return nn.Sequential(*layers, nn.Conv2d(16, 9, 3, padding=1), nn.PixelShuffle(3)), image(16, 1)


def keyword() -> tuple[Any, Any]:
    """One-dimensional separable convolutions over time, with batch norm and a mean. QuartzNet-like."""
    import torch
    from torch import nn

    layers: list[nn.Module] = []
    for _ in range(4):
        layers += [nn.Conv1d(16, 16, 5, padding=2, groups=16), nn.Conv1d(16, 16, 1), nn.BatchNorm1d(16), nn.Hardswish()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 12)), torch.randn(1, 16, 40)


SMALL_SWIN = {"embed_dim": 24, "depths": (2, 2), "num_heads": (2, 4)}
ARCHITECTURES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "resnet18": lambda: torchvision("resnet18"),
    "mobilenet_v3": lambda: torchvision("mobilenet_v3_small"),
    "efficientnet_b0": lambda: torchvision("efficientnet_b0"),
    "squeezenet": lambda: torchvision("squeezenet1_1"),
    "densenet121": lambda: torchvision("densenet121"),
    "googlenet": lambda: torchvision("googlenet", 96, init_weights=False, aux_logits=False),
    "inception_v3": lambda: torchvision("inception_v3", 96, init_weights=False, aux_logits=False),
    "mnasnet": lambda: torchvision("mnasnet0_5"),
    "regnet_y": lambda: torchvision("regnet_y_400mf"),
    "convnext": lambda: timm("convnext_atto"),
    "swin": lambda: timm("swin_tiny_patch4_window7_224", img_size=64, window_size=4, **SMALL_SWIN),
    "vit": lambda: timm("vit_tiny_patch16_224", img_size=64, depth=4),
    "mixer": mixer,
    "ghostnet": lambda: timm("ghostnet_050"),
    "repvgg": lambda: timm("repvgg_a0"),
    "poolformer": lambda: timm("poolformer_s12"),
    "hrnet": lambda: timm("hrnet_w18_small"),
    "bert": bert, "distilbert": distilbert, "gpt": gpt,
    "lstm": lambda: recurrent("LSTM"), "gru": lambda: recurrent("GRU"),
    "unet_deconv": lambda: unet("deconv"), "unet_nearest": lambda: unet("nearest"),
    "unet_bilinear": lambda: unet("bilinear"),
    "detector": detector, "espcn": superresolution, "keyword": keyword,
}  # fmt: skip
