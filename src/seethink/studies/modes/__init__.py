"""`seethink modes`: one checkpoint in several inference modes and under thinking budgets (paper 6.2, 6.3)."""
