"""The stage's objects in S3: which keys it owns, what they contain, whether others own them too."""
