"""Plan, Report or Status → text. Pure functions, one module per format."""
