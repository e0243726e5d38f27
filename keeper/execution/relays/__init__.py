"""Private order flow: transactions handed to those who build blocks, past the public pool."""
