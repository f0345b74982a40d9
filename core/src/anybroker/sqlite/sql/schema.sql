-- state: 0 ready, 1 leased, 2 delayed, 3 blocked by an older message with the same queue and ordering_key.
-- due_at: ready since, or leased or delayed until; milliseconds since 1970 by the clock of SQLite.
-- token: drawn anew whenever a lease begins or is ended, so that no older lease can be settled.
-- Those that change with a lease keep their size, so that SQLite overwrites them in place, and body comes last.
CREATE TABLE messages (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    ordering_key TEXT,
    state INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    token INTEGER NOT NULL,
    delivery_count INTEGER NOT NULL,
    eta TEXT,
    body BLOB NOT NULL
);

CREATE INDEX messages_ready ON messages (queue, priority DESC, seq, due_at, state) WHERE state = 0;

CREATE INDEX messages_waiting ON messages (queue, due_at, state, priority) WHERE state IN (1, 2);

CREATE INDEX messages_keyed ON messages (queue, ordering_key, seq, state, priority) WHERE ordering_key IS NOT NULL;

CREATE TABLE results (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    final INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    expires_at INTEGER,
    body BLOB NOT NULL
);

CREATE INDEX results_expiring ON results (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE groups (
    id TEXT PRIMARY KEY,
    finished INTEGER NOT NULL,
    sealed INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
);

CREATE INDEX groups_expiring ON groups (expires_at);

CREATE TABLE members (
    group_id TEXT NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (group_id, id)
) WITHOUT ROWID;

CREATE TABLE claims (
    key TEXT PRIMARY KEY,
    token TEXT NOT NULL,
    expires_at INTEGER NOT NULL
);

CREATE INDEX claims_expiring ON claims (expires_at);

CREATE VIEW clock (now) AS
SELECT CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER);
