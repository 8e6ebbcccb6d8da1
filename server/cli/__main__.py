"""`python -m server.cli`, for a child process of ours."""

from server.cli import main

main()
