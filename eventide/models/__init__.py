"""Backbones, necks, heads and the meta-architectures made of them."""
