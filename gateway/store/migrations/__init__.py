"""The Alembic migrations, run in-process by gateway/store/engine.py."""
