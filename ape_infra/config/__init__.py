"""The stack's settings: their groups, rules, parsing, and the files that they name."""
