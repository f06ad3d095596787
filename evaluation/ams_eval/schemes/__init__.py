"""What a user may do instead of, or beside, adaptation: one module each."""
