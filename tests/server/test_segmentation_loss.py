import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ams_server.segmentation_loss import segmentation_loss, upsampled_logits


def random_case(height: int, width: int, stride: int = 4, classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(height)
    logits = torch.randn(2, classes, height // stride, width // stride, generator=generator, requires_grad=True)
    labels = torch.randint(0, classes, (2, height, width), generator=generator, dtype=torch.uint8)
    labels[:, 0, :] = 255
    return logits, labels


@pytest.mark.parametrize("logit_stride", [1, 2, 4])
@pytest.mark.parametrize("size", [(8, 12), (14, 9)])
def test_it_is_the_mean_cross_entropy_of_the_upsampled_logits(size: tuple[int, int], logit_stride: int) -> None:
    logits, labels = random_case(*size, logit_stride)
    upsampled = F.interpolate(logits, size, mode="bilinear", align_corners=False)
    expected = F.cross_entropy(upsampled, labels.long(), ignore_index=255)
    (expected_gradient,) = torch.autograd.grad(expected, logits)
    loss = segmentation_loss(logits, labels)
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient, expected_gradient)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_logits_of_odd_pictures_lie_from_corner_to_corner(stride: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, 5, generator=generator, requires_grad=True)
    labels = torch.randint(0, 4, (2, 33, 65), generator=generator, dtype=torch.uint8)
    upsampled = F.interpolate(logits, (33, 65), mode="bilinear", align_corners=True)
    expected = F.cross_entropy(
        upsampled[:, :, stride // 2 :: stride, stride // 2 :: stride],
        labels[:, stride // 2 :: stride, stride // 2 :: stride].long(),
    )
    (expected_gradient,) = torch.autograd.grad(expected, logits)
    loss = segmentation_loss(logits, labels, stride)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, logits)[0], expected_gradient)


@pytest.mark.parametrize("stride", [1, 4])
def test_only_ignored_pixels_give_zero_and_no_gradient(stride: int) -> None:
    logits, labels = random_case(8, 8)
    loss = segmentation_loss(logits, torch.full_like(labels, 255), stride)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert float(loss.detach()) == 0
    assert not gradient.any()


def test_labels_that_the_student_does_not_have_are_ignored() -> None:
    logits, labels = random_case(8, 8)
    foreign = labels.clone()
    foreign[labels == 255] = 200
    foreign[0, 1, 1], labels[0, 1, 1] = 4, 255
    torch.testing.assert_close(segmentation_loss(logits, foreign), segmentation_loss(logits, labels))


def test_a_stride_looks_at_the_centres_of_blocks() -> None:
    labels = torch.full((1, 8, 8), 255, dtype=torch.uint8)
    labels[0, 2::4, 2::4] = 1
    logits = torch.zeros(1, 3, 2, 2)
    assert float(segmentation_loss(logits, labels, 4)) == pytest.approx(np.log(3))
    labels[0, 2::4, 2::4] = 255
    labels[0, ::4, ::4] = 1
    assert float(segmentation_loss(logits, labels, 4)) == 0


def test_a_stride_hardly_changes_the_gradient_of_smooth_labels() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(1, 2, 8, 8, generator=generator, requires_grad=True)
    labels = torch.zeros(1, 128, 128, dtype=torch.uint8)
    labels[:, :, 50:] = 1
    whole, strided = (torch.autograd.grad(segmentation_loss(logits, labels, stride), logits)[0] for stride in (1, 4))
    similarity = F.cosine_similarity(whole.flatten(), strided.flatten(), dim=0)
    assert float(similarity) > 0.99


def test_half_precision_logits_are_summed_in_full_precision() -> None:
    logits, labels = random_case(8, 8)
    half = segmentation_loss(logits.bfloat16(), labels)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, segmentation_loss(logits.bfloat16().float(), labels))


@pytest.mark.parametrize("size", [(8, 12), (33, 65)])
@pytest.mark.parametrize("stride", [1, 3])
def test_weights_multiply_the_loss_of_each_pixel_but_not_their_count(size: tuple[int, int], stride: int) -> None:
    logits, labels = random_case(*size)
    generator = torch.Generator().manual_seed(1)
    weights = torch.rand(2, *size, generator=generator)
    upsampled = upsampled_logits(logits, size, stride)
    targets, factors = (each[:, stride // 2 :: stride, stride // 2 :: stride] for each in (labels, weights))
    losses = F.cross_entropy(upsampled, targets.long(), ignore_index=255, reduction="none")
    torch.testing.assert_close(
        segmentation_loss(logits, labels, stride, pixel_weights=weights), (losses * factors).sum() / (targets != 255).sum()
    )
    torch.testing.assert_close(
        segmentation_loss(logits, labels, stride, pixel_weights=torch.ones(2, *size)), segmentation_loss(logits, labels, stride)
    )


@pytest.mark.parametrize("size", [(8, 12), (33, 65)])
def test_weights_of_classes_multiply_the_loss_of_their_pixels_and_those_of_the_pixels(size: tuple[int, int]) -> None:
    logits, labels = random_case(*size)
    by_class = torch.tensor([0.5, 2.0, 3.0, 0.1, 7.0])  # one more than there are classes
    by_pixel = torch.where(labels == 255, 1.0, by_class[labels.long() % 255])
    torch.testing.assert_close(
        segmentation_loss(logits, labels, class_weights=by_class), segmentation_loss(logits, labels, pixel_weights=by_pixel)
    )
    torch.testing.assert_close(
        segmentation_loss(logits, labels, class_weights=by_class, pixel_weights=by_pixel),
        segmentation_loss(logits, labels, pixel_weights=by_pixel.square()),
    )
