-- Every opening and closing of a breaker; the last row of a name says how it stands.

CREATE TABLE breakers (
    id INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    chain TEXT NOT NULL,
    name TEXT NOT NULL,
    is_open INTEGER NOT NULL,
    detail TEXT NOT NULL,
    cause TEXT NOT NULL,
    until REAL
);
CREATE INDEX breakers_name ON breakers (chain, name, id);
