"""Annotations, features, augmentation, loading and checks."""
