"""Figures beside their targets: `python -m bench` measures, prints and writes them."""
