"""One chain: endpoints, reads at a block's hash, and the listener that folds every block once."""
