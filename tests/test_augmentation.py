"""Augmentation of training images: random crops, colour jitter, greyscale."""

import pytest
import torch
from tiny_networks import caption_network, picture_batch, tiny_encoder

from showtell.learning.augmentation import cut_out, greyed, recoloured


def ramp(size: int = 32) -> torch.Tensor:
    """Images whose red grows to the right and whose green grows downwards, 4 a pixel: a colour is a position."""
    places = torch.arange(size, dtype=torch.uint8) * 4
    image = torch.stack([places.expand(size, size), places.view(-1, 1).expand(size, size), torch.zeros(size, size)])
    return image.to(torch.uint8).expand(50, 3, size, size).contiguous()


@pytest.mark.parametrize(("least", "spread"), [(0.5, 0.2), (0.9, 0.05)])
def test_random_crops_have_their_area_and_lie_in_the_picture(least, spread):
    torch.manual_seed(0)
    images = ramp()
    shown = cut_out(images, least_area=least)
    assert shown.shape == images.shape and shown.dtype == torch.uint8
    left, right = shown[:, 0, :, 0].float().mean(1), shown[:, 0, :, -1].float().mean(1)
    top, bottom = shown[:, 1, 0].float().mean(1), shown[:, 1, -1].float().mean(1)
    width, height = (right - left) / 4 + 1, (bottom - top) / 4 + 1  # pixels of the picture
    areas = width * height / 32**2
    assert areas.min() > least - 0.06 and areas.max() <= 1.001  # sides are whole pixels
    assert areas.max() - areas.min() > spread and left.max() > 3 and top.max() > 3
    assert (width / height).min() > 0.70 and (width / height).max() < 1.42


def test_colour_jitter_keeps_hues_and_black_and_differs_between_images():
    torch.manual_seed(0)
    images = torch.full((30, 3, 4, 4), 100, dtype=torch.uint8)
    images[:, 0, :, :2] = 140  # reddish on the left
    shown = recoloured(images, 0.3)
    assert shown.dtype == torch.uint8 and len(shown.flatten(1).unique(dim=0)) == 30
    left = shown[:, :, 0, 0].float()
    assert (left[:, 0] > left[:, 1]).all() and torch.equal(left[:, 1], left[:, 2])
    black = torch.zeros(5, 3, 4, 4, dtype=torch.uint8)
    assert torch.equal(recoloured(black, 0.5), black)


@pytest.mark.parametrize("changes", [{"least_area": 0.6}, {"colour": 0.4}], ids=str)
def test_fine_tuning_shows_changed_images_and_validation_does_not(changes):
    network = caption_network(tiny_encoder(), flip=False, grey=0.0, **changes)
    images = picture_batch().images
    assert not torch.equal(network.augmented(images), images)
    network.eval()
    torch.testing.assert_close(network.features(images), network.encoder(images).float())


def test_greyscale_images_keep_their_luminance():
    images = torch.randint(0, 256, (40, 3, 4, 4), dtype=torch.uint8)
    torch.manual_seed(0)
    shown = greyed(images, 0.5)
    grey = (shown == shown[:, :1]).flatten(1).all(dim=1)
    assert 0 < grey.sum() < 40
    assert torch.equal(shown[~grey], images[~grey])
    light = (images[grey].float() * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1)
    assert (shown[grey][:, 0] - light).abs().max() < 1.1  # rounding
