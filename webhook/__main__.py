"""`python -m webhook` is `kubectl-trust`."""

from webhook.cli import main

main()
