"""Where a model that sees an image has put its patches: found from what it was called with."""

import torch

from atento.reading.call import AttentionCall
from atento.reading.patches import PatchGrid
from atento.reading.watching import Place

__all__ = ["grid_of"]

LEADING = {
    "cls_token",
    "class_token",
    "class_embedding",
    "dist_token",
    "distillation_token",
    "reg_token",
    "register_tokens",
    "storage_tokens",
}
"""Parameters that are tokens before the patches, as models name them."""

TRAILING = {"det_token", "detection_tokens"}
"""Parameters that are tokens after the patches."""


def grid_of(call: AttentionCall, place: Place) -> PatchGrid | None:
    """How a call's tokens lie on the image that its model was called with.

    The model is the innermost module that was called with an image (batch, channel, row, column)
    and cuts it into patches: by one convolution of the image's channels, whose stride is its kernel
    size. Special tokens are those of the model's parameters that have a known name. The grid must
    account for every token of the call.

    Returns:
        The grid, or None where it cannot be known for certain: tokens of a text among them, patches
        that were left out, windows as batch items.
    """
    batch, _, tokens, _ = call.query.shape
    if call.kind != "self" or call.key.shape[2] != tokens:
        return None
    for module, args, kwargs in reversed(place.modules):
        given = [each for each in (*args, *kwargs.values()) if isinstance(each, torch.Tensor)]
        images = [each for each in given if each.ndim == 4 and each.is_floating_point()]
        patch = _patch_of(module, images[0].shape[1]) if len(images) == 1 else None
        if patch is None:
            continue
        image = images[0]
        if len(image) != batch or any(_counts(each) for each in given) or _drops_patches(module):
            return None
        rows, columns = image.shape[2] // patch[0], image.shape[3] // patch[1]
        around = [_tokens_named(module, names) for names in (LEADING, TRAILING)]
        grids = (PatchGrid(rows, columns), PatchGrid(rows, columns, *around))
        return next((grid for grid in grids if grid.tokens == tokens), None)
    return None


def _counts(tensor: torch.Tensor) -> bool:
    """Whether it holds whole numbers: token ids of a text, or sizes of images."""
    return not (tensor.is_floating_point() or tensor.dtype == torch.bool)


def _patch_of(module: torch.nn.Module, channels: int) -> tuple[int, int] | None:
    """Rows and columns of a patch; None where there is no such convolution, or several differ."""
    sizes = {
        each.kernel_size
        for each in module.modules()
        if isinstance(each, torch.nn.Conv2d)
        and each.in_channels == channels
        and each.kernel_size == each.stride != (1, 1)
        and each.padding in ((0, 0), "valid")
        and each.dilation == (1, 1)
    }
    found = sizes.pop() if len(sizes) == 1 else None
    return None if found is None else (found[0], found[1])


def _tokens_named(module: torch.nn.Module, names: set[str]) -> int:
    """How many tokens the module's parameters of these names are."""
    found = {
        name: parameter
        for name, parameter in module.named_parameters()
        if name.rpartition(".")[2] in names
    }
    # (feature,), (token, feature) or (batch of 1, token, feature)
    return sum(1 if each.ndim == 1 else each.shape[-2] for each in found.values())


def _drops_patches(module: torch.nn.Module) -> bool:
    """Whether it shuffles patches and leaves some out, as masked autoencoders do."""
    return getattr(getattr(module, "config", None), "mask_ratio", None) is not None
