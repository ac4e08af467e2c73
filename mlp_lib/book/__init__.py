"""Stages, executes and renders the book, and writes its reference pages and the README's tables."""
