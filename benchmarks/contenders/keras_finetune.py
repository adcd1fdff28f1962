"""Time one epoch in Keras of the second stage of the classic recipe, which trains block 5 and a new head.

    python keras_finetune.py IMAGES CLASSES

Images are in memory. Weights and pixels are random, which does not change the time. The first batch, which builds the
graph, is not timed.
"""

import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras.applications.vgg16 import VGG16

IMAGES, CLASSES = int(sys.argv[1]), int(sys.argv[2])
BATCH, SIZE = 16, 224

base = VGG16(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
for layer in base.layers:
    layer.trainable = layer.name.startswith("block5")
x = keras.layers.Flatten()(base.output)
x = keras.layers.Dropout(0.5)(keras.layers.Dense(256, activation="relu")(x))
model = keras.Model(base.input, keras.layers.Dense(CLASSES, activation="softmax")(x))
model.compile(keras.optimizers.SGD(1e-3), "sparse_categorical_crossentropy")
rng = np.random.default_rng(0)
pixels = rng.standard_normal((IMAGES, SIZE, SIZE, 3), np.float32)
labels = rng.integers(0, CLASSES, IMAGES)
model.fit(pixels[:BATCH], labels[:BATCH], batch_size=BATCH, verbose=0)
began = time.perf_counter()
model.fit(pixels, labels, batch_size=BATCH, epochs=1, verbose=0)
sys.stdout.write(f"{time.perf_counter() - began}\n")
