"""What tests of several stations share: a head with a spot at a known place, and models that see it."""
