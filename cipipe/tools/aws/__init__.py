"""The client of AWS. Imports go one way, from the bottom up:

errors, credentials, endpoint; messages, signing; certificates, proxies,
pools, transport, retries; signed; sts, listings, s3; clients.
"""
