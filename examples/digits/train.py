"""Trains the small depthwise-separable network of this folder and writes dscnn.onnx, calib.npz and eval.npz.

Needs `pip install planish[torch] scikit-learn`. The split and every seed are fixed.
"""

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

HERE = Path(__file__).parent
EPOCHS = 60
CALIBRATION_SAMPLES = 200


class Separable(nn.Module):
    """Depthwise 3x3, then pointwise: the block that small networks are made of."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Sequential(
            nn.Conv2d(inputs, inputs, 3, stride, padding=1, groups=inputs, bias=False),
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
        )
        self.pointwise = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, H / stride, W / stride]."""
        return self.pointwise(self.depthwise(x))


class DsCnn(nn.Module):
    """A stem, three separable blocks (the second inside a residual sum), global average pooling, one dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.down = Separable(24, 48, stride=2)
        self.residual = Separable(48, 48)
        self.widen = Separable(48, 64)
        self.dense = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 1, 8, 8] in 0..1 -> [N, 10] logits."""
        x = self.down(self.stem(x))
        x = self.widen(x + self.residual(x))
        return self.dense(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def shifted(images: Tensor, random: torch.Generator) -> Tensor:
    """Each image moved by at most one pixel: the only augmentation that eight by eight pixels allow."""
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    rows, columns = torch.randint(0, 3, (2, len(images)), generator=random).tolist()
    return torch.stack([image[:, r : r + 8, c : c + 8] for image, r, c in zip(padded, rows, columns, strict=True)])


def train(images: Tensor, labels: Tensor) -> DsCnn:
    """Adam with a one-cycle schedule; about ten seconds on two cores."""
    torch.manual_seed(0)
    random = torch.Generator().manual_seed(0)
    network = DsCnn()
    batches = -(-len(images) // 64)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, EPOCHS * batches)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images), generator=random).split(64):
            loss = nn.functional.cross_entropy(
                network(shifted(images[batch], random)), labels[batch], label_smoothing=0.05
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def main() -> None:
    """Train, measure, export."""
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    train_x, eval_x, train_y, eval_y = train_test_split(
        images, digits.target, test_size=540, random_state=0, stratify=digits.target
    )
    network = train(torch.from_numpy(train_x), torch.from_numpy(train_y))
    with torch.no_grad():
        correct = network(torch.from_numpy(eval_x)).argmax(1).numpy() == eval_y
    parameters = sum(p.numel() for p in network.parameters())
    print(f"{parameters} parameters, {correct.mean():.2%} of {len(eval_y)} evaluation images right")

    torch.onnx.export(
        network,
        (torch.zeros(1, 1, 8, 8),),
        HERE / "dscnn.onnx",
        input_names=["x"],
        output_names=["logits"],
        dynamic_axes={"x": {0: "N"}, "logits": {0: "N"}},
        opset_version=17,
        dynamo=False,  # the newer exporter writes opset 18 and later
    )
    np.savez_compressed(HERE / "calib.npz", x=train_x[:CALIBRATION_SAMPLES])
    np.savez_compressed(HERE / "eval.npz", x=eval_x, labels=eval_y.astype(np.int64))


if __name__ == "__main__":
    main()
