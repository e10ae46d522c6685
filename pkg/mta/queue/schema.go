package queue

// migrations build queue.db. Times are Unix milliseconds.
//
// The index due is the schedule: one range of it per destination, so that an
// attempt reads what it delivers and nothing else, however long the queue is.
var migrations = []string{`
CREATE TABLE entries (
	id        INTEGER PRIMARY KEY AUTOINCREMENT, -- never used again
	trace     TEXT NOT NULL,
	local     TEXT NOT NULL, -- of the reverse-path; both empty: null
	domain    TEXT NOT NULL,
	utf8      INTEGER NOT NULL,
	eightbit  INTEGER NOT NULL,
	ret       TEXT NOT NULL,
	envid     TEXT NOT NULL,
	arrived   INTEGER NOT NULL,
	size      INTEGER NOT NULL, -- bytes
	digest    BLOB -- of the file with the message; NULL: it is in bodies
);
CREATE INDEX files ON entries (digest) WHERE digest IS NOT NULL;
CREATE TABLE bodies (
	entry INTEGER PRIMARY KEY REFERENCES entries ON DELETE CASCADE,
	body  BLOB NOT NULL
);
CREATE TABLE recipients (
	entry       INTEGER NOT NULL REFERENCES entries ON DELETE CASCADE,
	n           INTEGER NOT NULL,
	local       TEXT NOT NULL,
	domain      TEXT NOT NULL,
	mailbox     TEXT NOT NULL,
	flags       TEXT NOT NULL, -- parted by spaces
	sent_copy   INTEGER NOT NULL,
	notify      TEXT NOT NULL,
	orcpt       TEXT NOT NULL,
	destination TEXT NOT NULL,
	state       INTEGER NOT NULL, -- a State
	attempts    INTEGER NOT NULL DEFAULT 0,
	waited      INTEGER NOT NULL DEFAULT 0, -- milliseconds of lifetime used up
	tried       INTEGER NOT NULL DEFAULT 0, -- last attempt; 0: none
	next        INTEGER NOT NULL,
	warned      INTEGER NOT NULL DEFAULT 0, -- a delay warning went out
	status      TEXT NOT NULL DEFAULT '',   -- of the last attempt, as a reply
	PRIMARY KEY (entry, n)
) WITHOUT ROWID;
CREATE INDEX due ON recipients (destination, next) WHERE state = 0;
`, `
ALTER TABLE entries ADD COLUMN proof INTEGER NOT NULL DEFAULT 2; -- a mail.Proof
ALTER TABLE recipients ADD COLUMN action TEXT NOT NULL DEFAULT '';
ALTER TABLE recipients ADD COLUMN moderation INTEGER NOT NULL DEFAULT 0; -- a mail.Moderation
CREATE INDEX awaiting ON recipients (domain, local) WHERE state = 1 AND moderation = 1;
`, `
ALTER TABLE entries ADD COLUMN binary INTEGER NOT NULL DEFAULT 0;
ALTER TABLE entries ADD COLUMN require_tls INTEGER NOT NULL DEFAULT 0;
`}
