"""What holds for every test."""

from hypothesis import settings

# How long an example takes is the machine's affair; a test that hangs is ended by whoever runs the tests.
settings.register_profile("untimed", parent=settings(), deadline=None)
settings.load_profile("untimed")
