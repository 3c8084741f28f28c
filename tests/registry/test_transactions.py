"""PostgreSQL's failures during a transaction: each is an error of the registry that tells what holds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from registry import tables
from registry.database import Registry, open_registry
from registry.errors import OutcomeUnknown, RegistryUnavailable, TransactionLost
from registry.settings import RegistrySettings
from registry.transactions import translation
from registry.types import Base

END_THE_OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.fixture
def postgres_registry(postgres_settings: RegistrySettings) -> Iterator[Registry]:
    registry = open_registry(postgres_settings)
    yield registry
    registry.close()


@pytest.mark.postgres
def test_a_transaction_whose_connection_breaks_is_lost_and_may_be_repeated(
    postgres_registry: Registry, postgres_database: sa.Engine, base: Base
) -> None:
    postgres_registry.bases.enter(base)
    with pytest.raises(TransactionLost, match="nothing was changed"), postgres_registry.transactions.write() as tx:
        tx.execute(sa.delete(tables.bases))
        with postgres_database.connect() as other:
            other.exec_driver_sql(END_THE_OTHERS)
        tx.execute(sa.select(tables.bases)).all()
    assert postgres_registry.bases.list() == [base]


@pytest.mark.postgres
def test_a_connection_that_breaks_at_its_commit_leaves_the_outcome_open(
    postgres_registry: Registry, postgres_database: sa.Engine
) -> None:
    with pytest.raises(OutcomeUnknown, match="look before you repeat"), postgres_registry.transactions.write() as tx:
        tx.execute(sa.delete(tables.jobs))
        with postgres_database.connect() as other:
            other.exec_driver_sql(END_THE_OTHERS)


@pytest.mark.postgres
def test_a_transaction_that_another_one_overtook_may_be_repeated(
    postgres_registry: Registry, postgres_database: sa.Engine
) -> None:
    with postgres_database.begin() as other:
        other.execute(sa.insert(tables.table_changes).values(name="seen", number=1))
    reading = postgres_registry.transactions.read()
    with pytest.raises(TransactionLost, match="rolled the transaction back"), reading as tx:
        assert tx.execute(sa.select(tables.table_changes)).all()
        with postgres_database.begin() as other:
            other.execute(sa.update(tables.table_changes).values(number=2))
        tx.execute(sa.update(tables.table_changes).values(number=3))


@pytest.mark.postgres
def test_a_read_only_server_answers_reads_and_takes_changes_once_it_takes_them_again(
    postgres_registry: Registry, postgres_database: sa.Engine, base: Base
) -> None:
    name = postgres_database.url.database
    with postgres_database.begin() as tx:
        tx.exec_driver_sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    postgres_registry.transactions.close()  # the setting counts for new connections
    try:
        with pytest.raises(RegistryUnavailable, match="read-only at the moment"):
            postgres_registry.bases.enter(base)
        assert postgres_registry.bases.list() == []
    finally:
        with postgres_database.connect().execution_options(isolation_level="AUTOCOMMIT") as own:
            own.exec_driver_sql("SET default_transaction_read_only = off")
            own.exec_driver_sql(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    # The first change meets a connection from the read-only time, and takes all of that time out of use.
    with pytest.raises(RegistryUnavailable, match="read-only at the moment"):
        postgres_registry.bases.enter(base)
    assert postgres_registry.bases.enter(base) == base


@pytest.mark.parametrize(
    "error", [sa.exc.InternalError, sa.exc.NotSupportedError, sa.exc.ProgrammingError, sa.exc.DatabaseError]
)
def test_every_other_error_of_a_driver_makes_the_registry_unavailable(error: type[sa.exc.DBAPIError]) -> None:
    failed = error("SELECT 1", None, Exception("out of\n  shared memory"))
    translated = translation(failed, "postgresql://h/d", commits=False)
    assert type(translated) is RegistryUnavailable
    assert str(translated) == "the registry postgresql://h/d does not answer: out of shared memory"
