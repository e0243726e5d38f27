"""What a fall of prices would do to the borrowers of a chain, to its pools and to a keeper."""
