"""How tokens lie on an image: found where it is certain, kept, and used for pictures of weights."""

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional

from atento import InputError, ShapeError, capture, load_recording
from atento.reading.patches import PatchGrid
from atento.reading.recording import Recording
from reading_models import VOCABULARY, bert, made
from reading_records import TK, TQ, H, normal, record, record_of

SMALL = {
    "hidden_size": 24,
    "num_attention_heads": 3,
    "num_hidden_layers": 2,
    "intermediate_size": 31,
    "image_size": 12,
    "patch_size": 4,
}


def images(batch, rows, columns):
    return torch.randn(batch, 3, rows, columns, generator=torch.Generator().manual_seed(5))


def captured(model, **inputs):
    with torch.no_grad(), capture(model, statistics=(), strict=False) as recording:
        model(**inputs)
    return recording


def vision(name, **more):
    config = getattr(transformers, f"{name}Config")(**{**SMALL, **more})
    return made(getattr(transformers, f"{name}Model"), config).eval()


FAMILIES = {
    "ViT": (lambda: vision("ViT"), (2, 12, 12), {}, PatchGrid(3, 3, 1)),
    "ViT, interpolated": (
        lambda: vision("ViT"), (2, 16, 24), {"interpolate_pos_encoding": True}, PatchGrid(4, 6, 1)
    ),
    "ViT, not square": (
        lambda: vision("ViT", image_size=(8, 20)), (1, 8, 20), {}, PatchGrid(2, 5, 1)
    ),
    "DeiT": (lambda: vision("Deit".replace("it", "iT")), (2, 12, 12), {}, PatchGrid(3, 3, 2)),
    "CLIP": (lambda: vision("CLIPVision"), (2, 12, 12), {}, PatchGrid(3, 3, 1)),
    "SigLIP": (lambda: vision("SiglipVision"), (2, 12, 12), {}, PatchGrid(3, 3)),
    "DINOv2": (lambda: vision("Dinov2"), (2, 20, 14), {}, PatchGrid(5, 3, 1)),
    "DINOv2 with registers": (
        lambda: vision("Dinov2WithRegisters", num_register_tokens=4), (2, 12, 17), {},
        PatchGrid(3, 4, 5),
    ),
    "BEiT": (lambda: vision("Beit"), (2, 12, 12), {}, PatchGrid(3, 3, 1)),
    "YOLOS": (
        lambda: vision("Yolos", num_detection_tokens=7, image_size=[12, 8]), (2, 12, 8), {},
        PatchGrid(3, 2, 1, 7),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_the_patches_of_a_family_are_found(name):
    make, (batch, rows, columns), more, grid = FAMILIES[name]
    recording = captured(make(), pixel_values=images(batch, rows, columns), **more)
    layers = [layer for layer in recording if layer.queries > 1]
    assert len(layers) == 2
    assert [layer.patches for layer in layers] == [grid, grid]
    assert recording.patches == grid


@pytest.mark.parametrize("name", FAMILIES)
def test_a_patch_of_the_image_changes_its_own_token_in_the_first_layer(name):
    make, (batch, rows, columns), more, grid = FAMILIES[name]
    model, image = make(), images(batch, rows, columns)
    before = captured(model, pixel_values=image, **more)[0].key
    for row, column in ((0, 0), (0, grid.columns - 1), (grid.rows - 1, 1)):
        changed = image.clone()
        changed[:, :, 4 * row + 1, 4 * column + 2] += 3
        key = captured(model, pixel_values=changed, **more)[0].key
        differs = np.abs(key - before).max(axis=(0, 1, 3)) > 0
        assert differs.nonzero()[0].tolist() == [grid.token((row, column))]


class HandWritten(nn.Module):
    """A ViT as timm writes it: patch_embed.proj, cls_token, reg_token, blocks."""

    def __init__(self, patch=(4, 4), registers=0, name="cls_token", stride=None):
        super().__init__()
        torch.manual_seed(3)
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, 12, patch, stride or patch)
        self.blocks = nn.ModuleList([nn.Linear(12, 36) for _ in range(2)])
        if name:
            setattr(self, name, nn.Parameter(torch.randn(1, 1, 12)))
        if registers:
            self.reg_token = nn.Parameter(torch.randn(1, registers, 12))

    def forward(self, x):
        x = self.patch_embed.proj(x).flatten(2).transpose(1, 2)
        for token in reversed(list(self.parameters(recurse=False))):
            x = torch.cat([token.expand(len(x), -1, -1), x], 1)
        for block in self.blocks:
            q, k, v = block(x).unflatten(-1, (3, 2, 6)).permute(2, 0, 3, 1, 4)
            x = x + functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x


@pytest.mark.parametrize(
    ("options", "grid"),
    [
        ({}, PatchGrid(3, 5, 1)),
        ({"patch": (2, 5)}, PatchGrid(6, 4, 1)),
        ({"registers": 3}, PatchGrid(3, 5, 4)),
        ({"name": None}, PatchGrid(3, 5)),
        ({"name": "summary"}, None),  # a token that nobody knows
        ({"stride": (2, 2)}, None),  # patches that overlap
    ],
)
def test_the_patches_of_a_hand_written_model_are_found_where_they_are_certain(options, grid):
    recording = captured(HandWritten(**options), x=images(2, 12, 20))
    assert recording.patches == grid
    assert all(layer.patches == grid for layer in recording)


def test_a_text_tower_beside_an_image_has_no_patches_though_it_is_as_long():
    text = {
        "hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 2,
        "intermediate_size": 31, "vocab_size": VOCABULARY, "max_position_embeddings": 10,
    }  # fmt: skip
    config = transformers.CLIPConfig(text_config=text, vision_config=SMALL, projection_dim=8)
    model = made(transformers.CLIPModel, config)
    ids = torch.randint(3, VOCABULARY, (2, 10), generator=torch.Generator().manual_seed(2))
    recording = captured(model, input_ids=ids, pixel_values=images(2, 12, 12))
    found = {layer.layer.split(".")[0]: layer.patches for layer in recording}
    assert found == {"text_model": None, "vision_model": PatchGrid(3, 3, 1)}
    assert all(layer.queries == 10 for layer in recording)


@pytest.mark.parametrize("ratio", [0.0, 0.5])
def test_patches_that_are_shuffled_have_no_grid(ratio):
    model = vision("ViTMAE", mask_ratio=ratio)
    assert captured(model, pixel_values=images(2, 12, 12)).patches is None


def test_windows_are_no_image():
    config = transformers.SwinConfig(
        image_size=24, patch_size=2, embed_dim=12, depths=[2, 1], num_heads=[2, 2], window_size=3
    )
    recording = captured(made(transformers.SwinModel, config), pixel_values=images(2, 24, 24))
    assert len(recording) == 3
    assert recording.patches is None


class Mirrored(HandWritten):
    """Looks at each image and at its mirror image, as further batch items."""

    def forward(self, x):
        return super().forward(torch.cat([x, x.flip(-1)]))


def test_batch_items_that_are_not_the_images_have_no_grid():
    recording = captured(Mirrored(), x=images(2, 12, 20))
    assert recording[0].batch == 4
    assert recording.patches is None


def test_a_text_has_no_patches():
    family = bert()
    assert captured(family.model, **family.inputs).patches is None


# Weights of a query as an image.

GRID = PatchGrid(2, 4, 2, 3)  # of 13 keys


def seen(mask="padding"):
    layer, weights = record_of(normal(2, 6, 13, 5), normal(2, 3, 13, 5), None, None)
    layer.patches = (2, 4, 2, 3)
    return layer, weights


def test_the_weights_of_a_query_lie_where_the_patches_do():
    layer, weights = seen()
    for query, token in ((0, 0), (-1, 12), ((0, 0), 2), ((1, 3), 9), ((-1, -4), 6), ([0, 2], 4)):
        image = layer.patch_weights(4, query, batch=1)
        assert image.shape == (2, 4)
        for row in range(2):
            for column in range(4):
                expected = weights[1, 4, token, 2 + 4 * row + column]
                assert image[row, column] == pytest.approx(expected, rel=1e-12)


def test_any_numbers_of_tokens_can_be_laid_on_the_image():
    layer, _ = seen()
    values = np.arange(2 * 13).reshape(2, 13)
    np.testing.assert_array_equal(GRID.image(values)[1], [[15, 16, 17, 18], [19, 20, 21, 22]])
    with pytest.raises(ShapeError, match=r"of 13 tokens; got shape \(2, 12\)"):
        GRID.image(values[:, 1:])
    assert layer.patches == GRID


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ((2, 0), r"2 rows and 4 columns of patches; got the patch \(2, 0\)"),
        ((0, -5), r"got the patch \(0, -5\)"),
        ((0, 1, 2), r"a patch is \(row, column\)"),
        ((0.5, 1), r"a patch is \(row, column\), whole numbers"),
        (13, r"there are 13 queries, 0 to 12; got query 13"),
        ("ab", r"a patch is"),
    ],
)
def test_a_query_that_is_not_there_is_refused(query, message):
    layer, _ = seen()
    with pytest.raises(InputError, match=message):
        layer.patch_weights(0, query)


def test_a_layer_without_an_image_says_what_to_do():
    layer, _ = record()
    with pytest.raises(InputError, match=r"is not known\. Say it: recording\.patches = \(rows, co"):
        layer.patch_weights(0, 0)
    layer.patches = (3, 4)
    assert layer.patch_weights(0, 10).shape == (3, 4)  # 11 queries of something else
    with pytest.raises(InputError, match=r"the queries of layer .* are no patches of the image"):
        layer.patch_weights(0, (0, 0))


# Set by hand.


@pytest.mark.parametrize(
    ("said", "grid"),
    [
        ((3, 4), PatchGrid(3, 4, 1)),
        ([13, 1], PatchGrid(13, 1)),
        ((3, 4, 0, 1), PatchGrid(3, 4, 0, 1)),
        (np.array([2, 5, 3]), PatchGrid(2, 5, 3)),
        (GRID, GRID),
        (None, None),
    ],
)
def test_patches_can_be_said(said, grid):
    recording = Recording([record()[0]])
    recording.patches = said
    assert recording.patches == recording[0].patches == grid
    assert TK == 13


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            (3, 5),
            r"3 × 5 patches, 0 tokens before and 0 after them are 15 tokens, and there are 13",
        ),
        ((3, 4, 0), r"3 × 4 patches, 0 tokens before .* are 12 tokens"),
        (PatchGrid(2, 2), r"are 4 tokens, and there are 13"),
        ((3,), r"patches are \(rows, columns\).* got \(3,\)"),
        ((0, 4), r"patches are"),
        ((3, 4, -1, 2), r"patches are"),
        ((3.0, 4), r"patches are"),
        ("3x4", r"patches are"),
        (7, r"patches are"),
    ],
)
def test_patches_that_cannot_be_are_refused(said, message):
    recording = Recording([record()[0]])
    for place in (recording, recording[0]):
        with pytest.raises(InputError, match=message):
            place.patches = said
        assert place.patches is None


def test_patches_are_said_of_the_layers_that_have_so_many_tokens():
    image, _ = record()
    text, _ = record_of(normal(1, 2, 17, 5), normal(1, 2, 17, 5), None, None, layer="text")
    small, _ = record_of(normal(1, 2, 7, 5), normal(1, 2, 7, 5), None, None, layer="small")
    recording = Recording([text, image, small])
    with pytest.raises(InputError, match=r"the layers have 13, 17 tokens: say how many of them"):
        recording.patches = (3, 4)
    recording.patches = (3, 4, 1)
    assert [layer.patches for layer in recording] == [None, PatchGrid(3, 4, 1), None]
    recording["small"].patches = (2, 3)
    recording.patches = (4, 4)  # only the text has so many
    assert recording["text"].patches == PatchGrid(4, 4, 1)
    assert recording["small"].patches == PatchGrid(2, 3, 1)
    recording.patches = None
    assert recording.patches is None


def test_patches_are_saved_and_loaded(tmp_path):
    recording = Recording([record()[0], record(layer="b")[0]])
    recording[0].patches = (2, 5, 1, 2)
    recording.save(tmp_path / "a")
    loaded = load_recording(tmp_path / "a")
    assert [layer.patches for layer in loaded] == [PatchGrid(2, 5, 1, 2), None]
    np.testing.assert_array_equal(
        loaded[0].patch_weights(3, 4), recording[0].weights(3, 4, (1, 11)).reshape(2, 5)
    )
    assert (TQ, H) == (11, 6)
