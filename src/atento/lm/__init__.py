"""Language models: a Transformer, its training loop, and the recipe of the embedded model."""
