"""What comes before any plan: the program itself, and `init`."""
