"""Builds the book, its reference pages, and the README's tables and picture."""
