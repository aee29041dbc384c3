"""Keras 3 on TensorFlow: the guide "Transfer learning & fine-tuning", with TensorFlow's tutorial for MobileNetV2.

- `image_dataset_from_directory`, whose images are decoded once and then cached; mirror images, rotations and zooms as layers.
- The base is called with `training=False`, so that batch normalisation keeps the statistics of the weights, as in Darkroom.
- The head alone with Adam at 1e-3; then the layers from `first_trained` on, 100 of 154 in the tutorial, at a lower rate.
- The epoch with the lowest validation loss is restored.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import common
import keras
import numpy as np

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def fit(
    folder: Path,
    weights: Path,
    size: int,
    seed: int,
    *,
    head_epochs: int,
    epochs: int,
    batch_size: int,
    lr: float,
    first_trained: int,
) -> common.Predict:
    keras.utils.set_random_seed(seed)

    def images(split: str, **options):
        return keras.utils.image_dataset_from_directory(
            folder / split, image_size=(size, size), crop_to_aspect_ratio=True, shuffle=False, verbose=False, **options
        )

    train, val = images("train", batch_size=None), images("val", batch_size=batch_size)
    classes = len(train.class_names)
    train = train.cache().shuffle(len(train.file_paths), seed=seed).batch(batch_size).prefetch(2)
    val = val.cache().prefetch(2)
    base = pretrained(weights, size)
    base.trainable = False
    inputs = keras.Input((size, size, 3))
    x = keras.layers.RandomFlip("horizontal")(inputs)
    x = keras.layers.RandomRotation(0.1)(x)
    x = keras.layers.RandomZoom(0.1)(x)
    x = keras.layers.Rescaling([1 / (255 * s) for s in STD], [-m / s for m, s in zip(MEAN, STD, strict=True)])(x)
    x = base(x, training=False)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.2)(x)
    model = keras.Model(inputs, keras.layers.Dense(classes, activation="softmax")(x))
    for trained, rate, count in ((None, 1e-3, head_epochs), (first_trained, lr, epochs)):
        if trained is not None:
            base.trainable = True
            for layer in base.layers[:trained]:
                layer.trainable = False
        model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
        best = keras.callbacks.EarlyStopping(patience=count, restore_best_weights=True)
        model.fit(train, validation_data=val, epochs=count, callbacks=[best], verbose=0)

    def predict(split: str) -> tuple[list[str], np.ndarray]:
        data = images(split, batch_size=batch_size)
        return data.file_paths, model.predict(data, verbose=0)

    return predict


def pretrained(file: Path, size: int) -> keras.Model:
    """Return MobileNetV2 without its head, with torchvision's weights.

    Both have their convolutions and normalisations in the same order. Keras' epsilon is 1e-3 and torch's 1e-5, so the
    variance takes the difference, which is exact while the statistics are frozen. Keras pads strided convolutions at the
    bottom and right, torchvision on all sides: that stays as each library has it.
    """
    from safetensors.numpy import load_file

    state = {key: value.astype(np.float32) for key, value in load_file(file).items() if "num_batches" not in key}
    prefixes = {key.rpartition(".")[0] for key in state if key.startswith("features.")}
    ordered = sorted(prefixes, key=lambda prefix: [int(part) for part in prefix.split(".") if part.isdigit()])
    base = keras.applications.MobileNetV2(input_shape=(size, size, 3), include_top=False, weights=None)
    layers = [layer for layer in base.layers if layer.weights]
    for layer, prefix in zip(layers, ordered, strict=True):
        weight = state[f"{prefix}.weight"]
        if isinstance(layer, keras.layers.BatchNormalization):
            variance = state[f"{prefix}.running_var"] + 1e-5 - layer.epsilon
            layer.set_weights([weight, state[f"{prefix}.bias"], state[f"{prefix}.running_mean"], variance])
        else:
            axes = (2, 3, 0, 1) if isinstance(layer, keras.layers.DepthwiseConv2D) else (2, 3, 1, 0)
            layer.set_weights([weight.transpose(axes)])
    return base


if __name__ == "__main__":
    settings = {"head_epochs": 10, "epochs": 10, "batch_size": 32, "lr": 1e-4, "first_trained": 100}
    common.run(fit, settings, ("keras", "tensorflow-cpu"))
