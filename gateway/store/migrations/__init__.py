"""The history of the tables, for Alembic; run in-process by gateway/store/engine.py."""
