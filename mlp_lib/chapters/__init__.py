"""The study: chapters with their presets, figures and rules, the claims, and what a notebook calls."""
