"""The benchmark: programs that take turns on the same cases, and what that says in numbers."""
