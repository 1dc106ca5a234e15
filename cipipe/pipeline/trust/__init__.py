"""Whom the roles of a project trust: subjects, claims, and the trust policies made of them."""
