"""The tables of a labelling journal, and the records that go in and out of them."""

from dataclasses import dataclass

SCHEMA = 1
TABLES = """
create table if not exists meta (name text primary key, value text not null) without rowid;
create table if not exists answers (
  key text primary key, about text not null, probability real, grade real, label_mass real, error text, kind text,
  method text not null, served_model text, reply text, input_tokens integer not null, output_tokens integer not null,
  cost real, time real not null
) without rowid;
create table if not exists failures (key text primary key, error text not null, time real not null) without rowid;
create table if not exists claims (key text primary key, owner text not null) without rowid;
create table if not exists owners (owner text primary key, host text not null, pid integer not null, beat real not null)
  without rowid;
create table if not exists exported (
  key text primary key, about text not null, method text not null, file text not null, time real not null
) without rowid;
create table if not exists abouts (about text primary key, description text not null) without rowid;
create table if not exists ladders (server text not null, model text not null, state text not null,
  primary key (server, model)) without rowid;
create table if not exists totals (id integer primary key, requests integer not null, unconfirmed integer not null,
  input_tokens integer not null, output_tokens integer not null, cost real not null);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One reply of one teacher on one pair. A reply that holds no answer has an error, and was paid all the same."""

    key: str  # digest of rubric, model, sampling, sample, query and document
    about: str  # digest of rubric, model and sampling
    probability: float | None = None
    grade: float | None = None
    label_mass: float | None = None
    error: str | None = None
    kind: str | None = None  # of error: "refusal", "unparseable", "rejected" ...
    method: str = ""
    served_model: str | None = None  # as the server named it
    reply: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What the journal's runs have spent so far, all together."""

    requests: int = 0  # replies that were paid
    unconfirmed: int = 0  # requests that broke off, so that nobody knows whether they were paid; counted as estimated
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0

    @property
    def tokens(self) -> int:
        """Input and output."""
        return self.input_tokens + self.output_tokens

    def plus(self, other: "Totals") -> "Totals":
        """The sum."""
        return Totals(
            requests=self.requests + other.requests,
            unconfirmed=self.unconfirmed + other.unconfirmed,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost=self.cost + other.cost,
        )


@dataclass(frozen=True, slots=True)
class Claimed:
    """What became of keys that were to be claimed."""

    mine: frozenset[str]  # now this process's to ask
    done: frozenset[str]  # answered, a paid reply without an answer included
    elsewhere: frozenset[str]  # another process that lives is asking
    exported: frozenset[str]  # out in a batch file


@dataclass(frozen=True, slots=True)
class Exported:
    """A request that is out in a batch file."""

    key: str
    about: str
    method: str
    file: str
