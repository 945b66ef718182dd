"""The names of values: nine colours, and the things that the emoji pictures show."""

COLORS = ("red", "green", "blue", "orange", "purple", "black", "pink", "teal", "brown")
EMOJI = ("apple", "banana", "dog", "cat", "car", "tree", "fish", "star")
NAMES = (*COLORS, *EMOJI)
