"""Routes: HTTP on one side, the Answerer on the other; nothing is computed here."""
