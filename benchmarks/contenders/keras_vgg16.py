"""Measure Keras: ``VGG16(include_top=False).predict`` on ``tf.data``. Random weights take the same time."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py
import numpy as np
import tensorflow as tf
from keras.applications.vgg16 import VGG16, preprocess_input
from worker import BATCH, SIZE, serve

model = VGG16(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3), pooling="avg")
model.predict(np.zeros((BATCH, SIZE, SIZE, 3), np.float32), batch_size=BATCH, verbose=0)


def backbone(count):
    pixels = np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3)).astype(np.float32)
    model.predict(preprocess_input(pixels), batch_size=BATCH, verbose=0)


def load(path):
    image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
    return preprocess_input(tf.image.resize(image, (SIZE, SIZE), antialias=True))


def store(photos, output):
    data = tf.data.Dataset.from_tensor_slices([str(path) for path in photos])
    data = data.map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(tf.data.AUTOTUNE)
    with h5py.File(output / "keras.h5", "w") as file:
        file["block5_avg"] = model.predict(data, verbose=0)


serve(backbone, store)
