"""Where the node's book and its durable work are kept."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from dicom_node.settings.fields import Name, PostgresAddress, Secret, Section


class Database(Section):
    """SQLite files in ``folder``, or one PostgreSQL for several nodes with one ``folder``.

    Attributes
    ----------
    url : postgresql://USER@HOST:PORT/NAME; unset: SQLite
    password : of that user; unset: as libpq finds it (~/.pgpass, certificates, peer)
    executor : what this process is called among those of the database, always the same and no other's;
        unset: the host's name and the roles
    """

    url: PostgresAddress | None = None
    password: Secret | None = None
    executor: Name | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.url is None and (self.password or self.executor):
            raise ValueError("password and executor go with a url")
        return self
