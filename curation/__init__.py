"""Refurbish: noisy seller labels in, clean versioned datasets and a fresh detector out."""

__version__ = "0.1.0"
