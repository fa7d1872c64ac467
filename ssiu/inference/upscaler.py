"""Upscaling an image in memory: any colours and depth, in tiles, straight into the finished image."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ssiu.device import autocast_type
from ssiu.errors import BadInputError, ConfigError, NonFiniteError
from ssiu.inference.prepare import prepare
from ssiu.inference.tiles import Tile, super_resolve_tiles
from ssiu.models.base import SRNetwork


class Upscaler:
    """A network made ready to upscale many images.

    Args:
        model: from `load_model` or `OnnxNetwork`; it stays on the device where it is.
        tile: side of the LR tiles, 0 = the whole image at once, "auto" = what fits; see `super_resolve`.
        self_ensemble: average over the eight flips and rotations, at eight times the cost.
        precision: fp32, tf32, bf16 or fp16.

    Raises ConfigError (78) for another tile or precision, and for one the model cannot be computed in.
    """

    def __init__(self, model: SRNetwork, *, tile: Tile = "auto", self_ensemble: bool = False, precision: str = "fp32"):
        if tile != "auto" and not (isinstance(tile, int) and tile >= 0):
            raise ConfigError(f"tile: expected 'auto' or a whole number, 0 or more, got {tile!r}")
        self.scale = model.scale
        self.tile, self.self_ensemble, self.precision = tile, self_ensemble, precision
        self.device = model.device
        self.network = prepare(model, autocast_type(precision))

    def __call__(self, pixels: np.ndarray, on_progress: Callable[[int], None] = lambda lr_pixels: None) -> np.ndarray:
        """(H, W, C) to (sH, sW, C) of the same type: uint8 or uint16, or float32 in [0, 1].

        C = 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha; gray and alpha pass through the network as gray images.
        ``on_progress`` is told how many LR pixels have been finished. Beside the result this takes the memory of one
        tile and a copy of ``pixels``. Raises DeviceMemoryError (69), NonFiniteError (70).
        """
        height, width, channels = pixels.shape
        full = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
        alpha = pixels[..., -1:] if channels in (2, 4) else None
        colour = pixels if alpha is None else _spread_colour(pixels[..., :-1], alpha[..., 0])
        planes = [colour]
        out = np.empty((height * self.scale, width * self.scale, channels), pixels.dtype)
        if alpha is not None and (alpha != alpha[0, 0]).any():
            planes.append(alpha)
        elif alpha is not None:
            out[..., -1] = alpha[0, 0]
        lr = torch.stack([_three_channels(plane) for plane in planes])  # (1 or 2, 3, H, W), in the range of pixels

        def run(part: Tensor, *tile_offset: Tensor) -> Tensor:
            return self.network(part.to(self.device).float() / full, *tile_offset)

        network = replace(self.network, run=run)
        for region, sr in super_resolve_tiles(network, lr, self.tile, self.self_ensemble):
            if not sr.isfinite().all():
                raise NonFiniteError(
                    f"the network's output has NaN or infinity in precision {self.precision}; use fp32 or other weights"
                )
            rows, columns = region.at(self.scale)
            first = 0
            for plane, piece in zip(planes, sr.float(), strict=True):  # (3, h, w)
                piece = piece if plane.shape[2] == 3 else piece.mean(0, keepdim=True)
                piece = piece.mul(full).clamp(0, full).permute(1, 2, 0)  # (h, w, 3 or 1)
                piece = piece if full == 1 else piece.round().int()
                out[rows, columns, first : first + plane.shape[2]] = piece.cpu().numpy()
                first += plane.shape[2]
            on_progress((region.bottom - region.top) * (region.right - region.left))
        return out


def upscale(model: SRNetwork, image: np.ndarray | Image.Image, **options: Any) -> np.ndarray | Image.Image:
    """Upscales one image and returns it as it came: an array for an array, a Pillow image for a Pillow image.

    A Pillow image is turned upright as its EXIF orientation says, and the result has its colour profile in ``info``,
    which ``save`` writes into PNG and TIFF; into JPEG and WebP with ``icc_profile=larger.info.get("icc_profile")``.

    Arrays are (H, W) or (H, W, C), C = 1-4 with alpha last where C is even, uint8, uint16 or floats in [0, 1] (floats
    come back as float32, clamped). Pillow images may be 1, L, LA, P, PA, RGB or RGBA; bilevel becomes L, and a palette
    RGB or RGBA. ``options`` are those of `Upscaler`, which serves many images better. Raises BadInputError (65) for
    another type, shape or range, ConfigError (78), DeviceMemoryError (69), NonFiniteError (70).
    """
    if isinstance(image, Image.Image):
        larger = Image.fromarray(_without_single_channel(Upscaler(model, **options)(_from_pillow(image))))
        if profile := image.info.get("icc_profile"):
            larger.info["icc_profile"] = profile
        return larger
    if isinstance(image, str | os.PathLike):
        raise BadInputError(
            f"a path, {os.fspath(image)!r}; expected an array or a Pillow image: Image.open(path), or "
            "`ssiu upscale` for files"
        )
    array = np.asarray(image)
    pixels = array[..., None] if array.ndim == 2 else array
    if pixels.ndim != 3 or not 1 <= pixels.shape[2] <= 4 or 0 in pixels.shape:
        raise BadInputError(f"an array of shape {array.shape}; expected (H, W) or (H, W, C) with C = 1 to 4")
    if pixels.dtype.kind == "f":
        if not (pixels.min() >= 0 and pixels.max() <= 1):  # also true for NaN
            raise BadInputError(f"floats from {pixels.min()} to {pixels.max()}; expected [0, 1]: divide by the maximum")
        pixels = pixels.astype(np.float32)
    elif pixels.dtype not in (np.uint8, np.uint16):
        raise BadInputError(f"an array of {array.dtype}; expected uint8, uint16 or floats in [0, 1]")
    out = Upscaler(model, **options)(pixels)
    return out[..., 0] if array.ndim == 2 else out


def _from_pillow(image: Image.Image) -> np.ndarray:
    """(H, W, C) uint8, upright."""
    if 0 in image.size:
        raise BadInputError(f"a Pillow image of {image.width}x{image.height} pixels; expected at least one")
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        raise BadInputError(f"a Pillow image of mode {image.mode}; expected L, RGB or RGBA: convert it first")
    image = ImageOps.exif_transpose(image)
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    pixels = np.array(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _without_single_channel(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def _three_channels(plane: np.ndarray) -> Tensor:
    """(H, W, 1 or 3) to (3, H, W); 16 bits as int32, because torch's uint16 cannot be flipped."""
    plane = plane.astype(np.int32) if plane.dtype == np.uint16 else np.require(plane, requirements=["C", "W"])
    return torch.from_numpy(plane).permute(2, 0, 1).expand(3, -1, -1)


def _spread_colour(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """``colour`` (H, W, C) with that of the nearest visible pixel where ``alpha`` is 0.

    What is stored under full transparency is arbitrary, often black, and would bleed into the visible edge.
    """
    visible = alpha > 0
    if visible.all() or not visible.any():
        return colour
    _, nearest = cv2.distanceTransformWithLabels(
        (~visible).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )  # (H, W): one number for each visible pixel, and everywhere that of the nearest
    table = np.zeros((nearest.max() + 1, colour.shape[2]), colour.dtype)
    table[nearest[visible]] = colour[visible]
    return table[nearest]
