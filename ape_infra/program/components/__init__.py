"""One component a file: what a stack is made of. Type tokens are pinned by a test."""
