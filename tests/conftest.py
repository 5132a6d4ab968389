"""What all tests share."""

from hypothesis import settings

# Machines are shared: an example may take long for no fault of ours.
settings.register_profile("atento", deadline=None)
settings.load_profile("atento")
