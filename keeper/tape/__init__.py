"""Tapes: what one chain showed, head by head, in a file that can be gone through again."""
