"""`python -m atento.lm.mini`: train the embedded model again, and measure its card."""

from atento.lm.mini.recipe import main

main()
