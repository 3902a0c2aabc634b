"""Trains a PyTorch network on an exported set: python train_torch.py set.npz [test.npz] [epochs]."""

import sys

import numpy as np
import torch
from torch import nn

data = np.load(sys.argv[1])
images = torch.from_numpy(data["images"]).permute(0, 3, 1, 2)  # model space, channels first
labels = torch.from_numpy(data["labels"])  # distributions over the classes

torch.manual_seed(0)
network = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 128), nn.ReLU(), nn.Linear(128, labels.shape[1]))
optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
for _ in range(int(sys.argv[3]) if len(sys.argv) > 3 else 300):
    for batch in torch.randperm(len(images)).split(256):
        loss = nn.functional.cross_entropy(network(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
print(f"loss on the set: {loss.item():.4f}")

if len(sys.argv) > 2:
    test = np.load(sys.argv[2])
    pixels = test["images"] / 255 if test["images"].dtype == np.uint8 else test["images"]
    model_space = (pixels - data["preprocess_mean"]) * data["preprocess_scale"]  # as the set's own images were
    with torch.no_grad():
        outputs = network(torch.from_numpy(model_space.astype(np.float32)).permute(0, 3, 1, 2))
    print(f"test accuracy: {100 * np.mean(outputs.argmax(1).numpy() == test['labels']):.1f} %")
