"""RQ1: what inference costs an MLP, a ResNet-152, a ViT and a Mixer at 64 pixels (claim 14)."""
