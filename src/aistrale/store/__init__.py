"""The books: what was called, what it cost, prompts, keys, events, budgets. On SQLite, or on PostgreSQL when shared."""
