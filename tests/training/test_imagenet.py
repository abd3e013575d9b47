"""ImageNet weights: an encoder that got them, with its classifier, names what a photograph shows.

Not covered: what they are worth for MR, which the tables of the bundles tell.
"""

import cv2
import keras
import numpy as np
import pytest
from keras import layers
from sklearn.datasets import load_sample_image

from training.networks.efficientnet import efficientnet_detector, efficientnet_unet
from training.networks.imagenet import efficientnet_lite0
from training.networks.transfer import take_over, take_over_imagenet

PALACE, DAISY = 698, 985  # classes of ImageNet


@pytest.fixture(scope="module")
def classifier():
    """The encoder of a U-Net, and ImageNet's own head on it."""
    unet = efficientnet_unet(size=224, channels=3)
    take_over_imagenet(unet)
    stem = unet.layers[2]
    weights = efficientnet_lite0()
    stem.set_weights([weights["_conv_stem.weight"].transpose(2, 3, 1, 0)])  # colours again
    end = next(layer for layer in unet.layers if isinstance(layer, layers.Conv2DTranspose)).input
    head = layers.Conv2D(1280, 1, use_bias=False)
    norm, last = layers.BatchNormalization(), layers.Dense(1000)
    scores = last(layers.GlobalAveragePooling2D()(layers.ReLU(6)(norm(head(end)))))
    head.set_weights([weights["_conv_head.weight"].transpose(2, 3, 1, 0)])
    norm.set_weights([weights[f"_bn1.{part}"] for part in ("weight", "bias", "running_mean", "running_var")])
    last.set_weights([weights["_fc.weight"].T, weights["_fc.bias"]])
    return keras.Model(unet.input, scores)


@pytest.mark.slow
@pytest.mark.parametrize(("photograph", "shows"), [("china.jpg", PALACE), ("flower.jpg", DAISY)])
def test_the_encoder_names_what_a_photograph_shows(classifier, photograph, shows):
    image = load_sample_image(photograph).astype(np.float32) / 255
    left = (image.shape[1] - image.shape[0]) // 2
    square = cv2.resize(image[:, left:-left], (224, 224), interpolation=cv2.INTER_AREA)
    assert int(np.argmax(classifier(square[None], training=False))) == shows


def test_grey_in_equal_channels_means_the_same_for_one_channel_and_for_three():
    one, three = efficientnet_unet(size=64), efficientnet_unet(size=64, channels=3)
    for unet in (one, three):
        assert take_over_imagenet(unet) == 96
    grey = np.random.default_rng(0).random((2, 64, 64, 1), dtype=np.float32)
    encoders = [keras.Model(unet.input, unet.layers[5].output) for unet in (one, three)]
    np.testing.assert_allclose(
        encoders[0](grey, training=False),
        encoders[1](np.repeat(grey, 3, axis=3), training=False),
        atol=1e-4,
    )


def test_a_detector_starts_from_the_segmenter_down_to_its_cells():
    unet, detector = efficientnet_unet(size=64), efficientnet_detector(size=64)
    own = [layer for layer in detector.layers if layer.weights]
    count = take_over(unet, detector)
    assert [layer.name for layer in own[count:]] == ["cells", "probability"]
