"""Applying exactly the plan that was made or approved, and what is left when that stops."""
