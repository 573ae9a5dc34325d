"""Contract: requests, answers and errors of the API, and failures of scoring. It imports no other wing."""
