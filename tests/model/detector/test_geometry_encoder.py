from dataclasses import replace

import torch
from torch import Tensor

from sam3.model.detector.detector import Sam3Image
from sam3.structures import GeometricPrompt, ImageFeatures

INDEX = torch.tensor([0, 1, 1])


def encode(model: Sam3Image, image: ImageFeatures, prompt: GeometricPrompt, index: Tensor) -> tuple[Tensor, Tensor]:
    position = image.positions[-1].flatten(2).transpose(1, 2)
    return model.geometry_encoder(prompt, image.pyramid[-1], position, index)


def row(prompt: GeometricPrompt, index: int) -> GeometricPrompt:
    """One prompt without its padding."""
    box, point = ~prompt.box_mask[index], ~prompt.point_mask[index]
    return GeometricPrompt(
        boxes=prompt.boxes[index, box][None],
        box_labels=prompt.box_labels[index, box][None],
        box_mask=torch.zeros(1, int(box.sum()), dtype=torch.bool),
        points=prompt.points[index, point][None],
        point_labels=prompt.point_labels[index, point][None],
        point_mask=torch.zeros(1, int(point.sum()), dtype=torch.bool),
    )


@torch.no_grad()
def test_padding_changes_nothing(model: Sam3Image, images: Tensor, prompt: GeometricPrompt) -> None:
    image = model.encode_image(images)
    tokens, mask = encode(model, image, prompt, INDEX)
    assert (~mask).sum(1).tolist() == [4, 2, 2]  # points, boxes and the class token
    for index in range(3):
        alone, alone_mask = encode(model, image, row(prompt, index), INDEX[index : index + 1])
        assert not alone_mask.any()
        torch.testing.assert_close(tokens[index][~mask[index]], alone[0], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_without_geometry_the_class_token_remains(model: Sam3Image, images: Tensor) -> None:
    tokens, mask = encode(model, model.encode_image(images), GeometricPrompt.empty(3), INDEX)
    assert tokens.shape == (3, 1, 32)
    assert not mask.any()


@torch.no_grad()
def test_label_place_and_image_matter(model: Sam3Image, images: Tensor, prompt: GeometricPrompt) -> None:
    image = model.encode_image(images)
    before, _ = encode(model, image, prompt, INDEX)
    for changed in (
        replace(prompt, box_labels=1 - prompt.box_labels),
        replace(prompt, boxes=prompt.boxes + 0.1),
        replace(prompt, points=prompt.points + 0.1),
    ):
        after, _ = encode(model, image, changed, INDEX)
        assert not torch.allclose(before[0], after[0], atol=1e-3)
    other_image, _ = encode(model, image, prompt, 1 - INDEX)
    assert not torch.allclose(before[0], other_image[0], atol=1e-3)


@torch.no_grad()
def test_prompts_of_one_image_together_or_apart(model: Sam3Image, images: Tensor, prompt: GeometricPrompt) -> None:
    one = model.encode_image(images[:1])
    two = model.encode_image(images)
    index = torch.zeros(3, dtype=torch.long)
    shared, mask = encode(model, one, prompt, index)  # the image is projected once
    apart, _ = encode(model, two, prompt, index)
    torch.testing.assert_close(shared[~mask], apart[~mask], rtol=1e-4, atol=1e-5)


def test_training_reaches_every_parameter_without_geometry(model: Sam3Image, images: Tensor) -> None:
    model.train()
    encode(model, model.encode_image(images), GeometricPrompt.empty(3), INDEX)[0].sum().backward()
    absent = [name for name, p in model.geometry_encoder.named_parameters() if p.grad is None]
    assert absent == []
