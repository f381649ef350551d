"""The non-local block of RPNet's published code: every pixel adds a mean over all pixels.

In: features [B, C, h, w]. Out: the same shape. The paper does not name it.
Source: Wang et al., Non-local Neural Networks (arXiv 1711.07971), equations 1 to 6.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class NonLocalBlock(nn.Module):
    """z = x + BatchNorm(W y), y_i = sum_j f(x_i, x_j) g(x_j); equals x until training moves it.

    BatchNorm's scale starts at 0. In evaluation mode it uses running statistics, so that an
    image's output depends on no other image; the published code stays in training mode.

    Args:
        channels: C; inside, half as many.
        similarity: ``gaussian``: f is the softmax over j of theta(x_i) . phi(x_j);
            ``dot_product``: that product over N = h w (RPNet's code).

    Raises:
        ValueError: another similarity.
    """

    def __init__(self, channels: int, similarity: str) -> None:
        super().__init__()
        if similarity not in ("gaussian", "dot_product"):
            raise ValueError(f"unknown similarity {similarity!r}; known: gaussian, dot_product")
        inner = max(1, channels // 2)
        self.similarity = similarity
        self.theta = nn.Conv2d(channels, inner, 1)
        self.phi = nn.Conv2d(channels, inner, 1)
        self.g = nn.Conv2d(channels, inner, 1)
        self.out = nn.Conv2d(inner, channels, 1)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, feature: Tensor) -> Tensor:
        query, key, value = (
            branch(feature).flatten(2).transpose(1, 2)  # [B, N, C / 2]
            for branch in (self.theta, self.phi, self.g)
        )
        if self.similarity == "gaussian":
            mean = functional.scaled_dot_product_attention(query, key, value, scale=1.0)
        else:
            # (query key') value = query (key' value): no [B, N, N]
            mean = query @ (key.transpose(1, 2) @ value) / query.shape[1]
        mean = mean.transpose(1, 2).unflatten(2, feature.shape[-2:])  # [B, C / 2, h, w]
        return feature + self.norm(self.out(mean))
