"""Alembic's environment and the migrations; `store.schema` runs them when a store is opened."""
