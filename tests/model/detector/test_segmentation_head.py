import pytest
import torch
from torch import Tensor

from sam3.model.detector import segmentation_head
from sam3.model.detector.detector import Sam3Image
from sam3.model.detector.segmentation_head import SegmentationHead

INDEX = torch.tensor([0, 1, 1])


@pytest.fixture
def head(model: Sam3Image) -> SegmentationHead:
    return model.segmentation_head


def inputs(num_images: int = 2) -> tuple[list[Tensor], Tensor, Tensor, Tensor, Tensor]:
    """Pyramid, memory, prompt, mask, queries for three prompts."""
    generator = torch.Generator().manual_seed(0)
    pyramid = [torch.randn(num_images, 32, size, size * 3 // 2, generator=generator) for size in (8, 4, 2)]
    memory = torch.randn(3, 6, 32, generator=generator)
    prompt = torch.randn(3, 5, 32, generator=generator)
    mask = torch.zeros(3, 5, dtype=torch.bool)
    return pyramid, memory, prompt, mask, torch.randn(3, 4, 32, generator=generator)


@torch.no_grad()
def test_masks_are_products_of_both_embeddings(head: SegmentationHead) -> None:
    pyramid, memory, prompt, mask, queries = inputs()
    masks, semantic = head(pyramid, INDEX, memory, prompt, mask, queries)
    pixels = head.embed_pixels(pyramid, INDEX, memory, prompt, mask)
    expected = torch.einsum("pqc,pchw->pqhw", head.mask_predictor(queries), head.instance_seg_head(pixels))
    assert masks.shape == (3, 4, 8, 12)
    torch.testing.assert_close(masks, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(semantic, head.semantic_seg_head(pixels))


@torch.no_grad()
def test_prompts_may_be_segmented_in_groups(head: SegmentationHead, monkeypatch: pytest.MonkeyPatch) -> None:
    pyramid, *rest = inputs()
    whole = head(pyramid, INDEX, *rest)
    monkeypatch.setattr(segmentation_head, "MAX_GROUP_VALUES", 1)
    for together, apart in zip(whole, head(pyramid, INDEX, *rest), strict=True):
        torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_one_image_serves_all_prompts(head: SegmentationHead) -> None:
    pyramid, *rest = inputs(num_images=1)
    single = head(pyramid, torch.zeros(3, dtype=torch.long), *rest)[0]
    repeated = head([level.expand(3, -1, -1, -1) for level in pyramid], torch.arange(3), *rest)[0]
    torch.testing.assert_close(single, repeated, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_no_prompts(head: SegmentationHead) -> None:
    pyramid, *rest = inputs()
    masks, semantic = head(pyramid, INDEX[:0], *(x[:0] for x in rest))
    assert masks.shape == (0, 4, 8, 12)
    assert semantic.shape == (0, 1, 8, 12)


def test_the_unused_stage_gets_no_gradient(head: SegmentationHead) -> None:
    pyramid, *rest = inputs()
    masks, semantic = head(pyramid, INDEX, *rest)
    (masks.sum() + semantic.sum()).backward()
    without = {name for name, parameter in head.named_parameters() if parameter.grad is None}
    assert without == {
        f"pixel_decoder.{part}.2.{kind}" for part in ("conv_layers", "norms") for kind in ("weight", "bias")
    }
