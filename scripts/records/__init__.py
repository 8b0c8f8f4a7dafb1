"""Recipes that reach an accuracy, a script each, and what they have reached."""
