"""Telling people: messages, the channels they go through, and what delivers each of them once."""
