"""Ways to turn one token into another, one kind of pool per module."""
