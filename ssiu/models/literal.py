"""The literal network: SSIU's equations a line each, eager and NCHW, to compare the fast one with.

Nothing is slowed down on purpose: this is how one would first write the paper down. It shares no code with ``ssiu`` and
loads its state dict.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def depthwise(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect", groups=channels)


class LayerNorm(nn.Module):
    """Over the channels of each pixel."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(dim=1, keepdim=True)
        variance = centred.square().mean(dim=1, keepdim=True)
        normed = centred * torch.rsqrt(variance + 1e-6)
        return self.weight[:, None, None] * normed + self.bias[:, None, None]


class MSGM(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.gate = nn.Conv2d(channels, channels, 1)
        self.value = nn.Sequential(
            nn.Conv2d(channels, channels, 1), depthwise(channels), nn.Conv2d(channels, channels, 1)
        )
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, f: Tensor) -> Tensor:
        f1 = self.gate(f)
        f2 = self.value(f)
        return self.out(F.gelu(f1) * f2)  # Eq. 15


class ESAM(nn.Module):
    def __init__(self, channels: int, num_heads: int, sparse: bool):
        super().__init__()
        self.heads, self.depth, self.sparse = num_heads, channels // num_heads, sparse
        self.rel_h = nn.Parameter(torch.empty(1, 10, 1, self.depth // 2))
        self.rel_w = nn.Parameter(torch.empty(1, 1, 10, self.depth // 2))
        if sparse:
            self.conv = depthwise(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)

    def forward(self, f: Tensor) -> Tensor:
        x = F.max_pool2d(f, 2) if self.sparse else f  # Eq. 16
        batch, channels, height, width = x.shape
        q, k, v = self.qkv(x).unflatten(1, (3, self.heads, self.depth)).unbind(1)  # each (B, heads, d, h, w)
        q = q.unfold(3, 8, 8).unfold(4, 8, 8)  # blocks: (B, heads, d, h/8, w/8, 8, 8)
        k, v = (F.pad(t, (1, 1, 1, 1)).unfold(3, 10, 8).unfold(4, 10, 8) for t in (k, v))  # (..., h/8, w/8, 10, 10)
        position = torch.cat([self.rel_h.expand(1, 10, 10, -1), self.rel_w.expand(1, 10, 10, -1)], dim=3)
        k = k + torch.einsum("zijd->dij", position)[:, None, None]
        scores = torch.einsum("bhdrcij,bhdrckl->bhrcijkl", q * self.depth**-0.5, k)
        y = torch.einsum("bhrcijkl,bhdrckl->bhdricj", scores.flatten(6).softmax(dim=6).view_as(scores), v)  # Eq. 17
        y = y.reshape(batch, channels, height, width)
        if not self.sparse:
            return y
        return F.interpolate(self.conv(y), scale_factor=2, mode="bilinear", align_corners=True)  # Eq. 18


class SSReM(nn.Module):
    def __init__(self, channels: int, num_heads: int, attention: str, beta_sign: str, skip: str):
        super().__init__()
        self.sign = {"minus": -1, "plus": 1}[beta_sign]
        self.skip = skip
        self.norm = LayerNorm(channels)
        self.msgm1, self.msgm2 = MSGM(channels), MSGM(channels)
        self.esam = ESAM(channels, num_heads, attention == "sparse")
        self.msgm3, self.msgm4 = MSGM(channels), MSGM(channels)

    def forward(self, a: Tensor, f_y: Tensor) -> Tensor:
        normed = self.norm(a)
        z = self.msgm1(normed)  # Eq. 10
        beta = self.msgm2(normed)  # Eq. 11
        v_hat = z + {"norm": normed, "raw": a}[self.skip] + f_y  # Eq. 12
        v = self.esam(v_hat) + v_hat
        a = self.msgm3(v + self.sign * beta) + beta  # Eq. 13
        return self.msgm4(a) + a  # Eq. 14


class MoEFS(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.gates = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(3))
        self.fuse = nn.Conv2d(channels, channels, 1)

    def forward(self, experts: list[Tensor]) -> Tensor:
        a = torch.stack(experts)
        w = torch.stack([gate(expert) for gate, expert in zip(self.gates, experts, strict=True)]).softmax(
            dim=0
        )  # Eq. 19
        a_w = torch.einsum("ebchw,ebchw->bchw", w, a)
        return a_w + self.fuse(a_w)  # Eq. 20


class LiteralSSIU(nn.Module):
    """Takes ``SSIU``'s arguments and state dict."""

    def __init__(
        self,
        scale: int,
        n_feats: int = 64,
        num_heads: int = 4,
        n_blocks: int = 9,
        attention: str = "sparse",
        moe: bool = True,
        beta_sign: str = "minus",
        skip: str = "norm",
    ):
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(3, n_feats, 3, padding=1, padding_mode="reflect")
        self.stages = nn.ModuleList(SSReM(n_feats, num_heads, attention, beta_sign, skip) for _ in range(n_blocks))
        self.moe_fs = MoEFS(n_feats) if moe else None
        steps = [2, 2] if scale == 4 else [scale]
        up = [(nn.Conv2d(n_feats, s * s * n_feats, 1), nn.PixelShuffle(s), nn.GELU()) for s in steps]
        self.tail = nn.Sequential(*sum(up, ()), nn.Conv2d(n_feats, 3, 3, padding=1, padding_mode="reflect"))

    def forward(self, y: Tensor) -> Tensor:
        height, width = y.shape[-2:]
        y = F.pad(y, (0, -width % 16, 0, -height % 16), mode="reflect")  # sides of at least 9
        f_y = self.head(y)  # Eq. 6
        a = [f_y]
        for stage in self.stages:
            a.append(stage(a[-1], f_y))  # Eq. 7
        group = len(self.stages) // 3
        f_x = self.moe_fs(a[group::group]) if self.moe_fs else a[-1]  # Eq. 8
        up = F.interpolate(y, scale_factor=self.scale, mode="bilinear", align_corners=False)
        x = self.tail(f_x + f_y) + up  # Eq. 9
        return x[..., : self.scale * height, : self.scale * width]
