"""Plans that are saved, approved by people, and applied."""
