"""How builds become releases in a store, and what the keys of a store are."""
