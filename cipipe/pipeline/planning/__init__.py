"""From a commit and the ledger to a plan: what is read, what is compared, what is decided."""
