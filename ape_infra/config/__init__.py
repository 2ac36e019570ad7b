"""Settings of a stack: their groups, rules and parsing, and the files that they refer to."""
