"""Helpers of the tests: stacks, fakes, nodes, and the cases that several modules share."""
