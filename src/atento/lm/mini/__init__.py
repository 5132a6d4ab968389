"""How the embedded model was made: its corpus' rows, objective, training, card. `make model`."""
