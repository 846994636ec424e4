"""What Alembic runs: the migrations, on the connection and in the transaction that `store.schema` gives."""

from alembic import context

from store.models import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
