package sqlstore

// schema is all migrations, in order; a step is never edited, only followed.
func schema() []string {
	return []string{first, counters, packed, removedAt, inPacks, sharing, metadata, holds, listings}
}

const first = `
CREATE TABLE account (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE mailbox (
	id          INTEGER PRIMARY KEY AUTOINCREMENT,
	account     INTEGER NOT NULL REFERENCES account (id),
	name        TEXT NOT NULL,
	uidvalidity INTEGER NOT NULL,
	uidnext     INTEGER NOT NULL DEFAULT 1,
	modseq      INTEGER NOT NULL DEFAULT 1,
	recent      INTEGER NOT NULL DEFAULT 1,
	noselect    INTEGER NOT NULL DEFAULT 0,
	use         TEXT NOT NULL DEFAULT '',
	UNIQUE (account, name)
);
CREATE TABLE subscription (account INTEGER NOT NULL REFERENCES account (id), name TEXT NOT NULL, PRIMARY KEY (account, name)) WITHOUT ROWID;
CREATE TABLE body (
	id        INTEGER PRIMARY KEY,
	digest    BLOB NOT NULL UNIQUE,
	size      INTEGER NOT NULL,
	header    BLOB NOT NULL,
	envelope  BLOB NOT NULL,
	basic     BLOB NOT NULL,
	structure BLOB NOT NULL,
	parts     BLOB NOT NULL,
	messageid TEXT NOT NULL,
	content   BLOB -- NULL: in its file
);
CREATE TABLE message (
	mailbox  INTEGER NOT NULL REFERENCES mailbox (id),
	uid      INTEGER NOT NULL,
	modseq   INTEGER NOT NULL,
	flags    INTEGER NOT NULL,
	keywords TEXT NOT NULL,
	internal TEXT NOT NULL,
	saved    INTEGER NOT NULL,
	size     INTEGER NOT NULL,
	body     INTEGER NOT NULL REFERENCES body (id),
	prefix   BLOB NOT NULL,
	sentcopy INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (mailbox, uid)
) WITHOUT ROWID;
CREATE INDEX message_modseq ON message (mailbox, modseq);
CREATE INDEX message_body ON message (body);
CREATE INDEX body_messageid ON body (messageid) WHERE messageid <> '';
CREATE TABLE expunged (mailbox INTEGER NOT NULL, modseq INTEGER NOT NULL, uid INTEGER NOT NULL, PRIMARY KEY (mailbox, modseq, uid)) WITHOUT ROWID;
CREATE TABLE delivered (trace TEXT NOT NULL, mailbox INTEGER NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (trace, mailbox)) WITHOUT ROWID;
CREATE INDEX delivered_at ON delivered (at);
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID`

// counters keeps what Status and quota ask for in the mailbox's row. 1 is
// store.Seen, 8 store.Deleted.
const counters = `
ALTER TABLE mailbox ADD COLUMN messages INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mailbox ADD COLUMN unseen INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mailbox ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mailbox ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
UPDATE mailbox SET (messages, unseen, deleted, bytes) =
	(SELECT count(*), coalesce(sum(flags & 1 = 0), 0), coalesce(sum(flags & 8 <> 0), 0), coalesce(sum(size), 0) FROM message WHERE message.mailbox=mailbox.id);
CREATE TRIGGER message_added AFTER INSERT ON message BEGIN
	UPDATE mailbox SET messages=messages+1, unseen=unseen+(NEW.flags & 1 = 0), deleted=deleted+(NEW.flags & 8 <> 0), bytes=bytes+NEW.size WHERE id=NEW.mailbox;
END;
CREATE TRIGGER message_gone AFTER DELETE ON message BEGIN
	UPDATE mailbox SET messages=messages-1, unseen=unseen-(OLD.flags & 1 = 0), deleted=deleted-(OLD.flags & 8 <> 0), bytes=bytes-OLD.size WHERE id=OLD.mailbox;
END;
CREATE TRIGGER message_flagged AFTER UPDATE OF flags ON message WHEN (OLD.flags & 9) <> (NEW.flags & 9) BEGIN
	UPDATE mailbox SET unseen=unseen+(NEW.flags & 1 = 0)-(OLD.flags & 1 = 0), deleted=deleted+(NEW.flags & 8 <> 0)-(OLD.flags & 8 <> 0) WHERE id=NEW.mailbox;
END`

// packed leaves the counters to the engine, which writes them once a commit;
// keeps what FETCH asks for most (outline) apart from the bytes of messages, so
// that many lie on one page; does without the indexes that memory replaces; and
// keeps what was removed until it is purged.
const packed = `
DROP TRIGGER message_added;
DROP TRIGGER message_gone;
DROP TRIGGER message_flagged;
ALTER TABLE mailbox ADD COLUMN gone INTEGER NOT NULL DEFAULT 0; -- MODSEQ of the last expunge
ALTER TABLE mailbox ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0; -- expunges up to this MODSEQ are not in expunged any more
UPDATE mailbox SET gone=coalesce((SELECT max(modseq) FROM expunged WHERE mailbox=id), 0);
CREATE TABLE outline (body INTEGER PRIMARY KEY, envelope BLOB NOT NULL, basic BLOB NOT NULL, structure BLOB NOT NULL, parts BLOB NOT NULL);
INSERT INTO outline SELECT id, envelope, basic, structure, parts FROM body;
CREATE TABLE content (
	id        INTEGER PRIMARY KEY,
	size      INTEGER NOT NULL,
	messageid TEXT NOT NULL,
	digest    BLOB NOT NULL,
	header    BLOB NOT NULL,
	text      BLOB -- what follows the header; NULL: the whole is in its file
);
INSERT INTO content SELECT id, size, messageid, digest, header, substr(content, length(header)+1) FROM body;
CREATE TABLE copy (
	mailbox  INTEGER NOT NULL,
	uid      INTEGER NOT NULL,
	modseq   INTEGER NOT NULL,
	flags    INTEGER NOT NULL,
	keywords TEXT NOT NULL,
	internal INTEGER NOT NULL, -- seconds since 1970
	zone     INTEGER NOT NULL, -- minutes east of Greenwich
	saved    INTEGER NOT NULL,
	size     INTEGER NOT NULL, -- with the prefix
	body     INTEGER NOT NULL,
	prefix   BLOB NOT NULL,
	sentcopy INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (mailbox, uid)
) WITHOUT ROWID;
INSERT INTO copy SELECT mailbox, uid, modseq, flags, keywords, coalesce(CAST(strftime('%s', internal) AS INTEGER), 0),
	CASE substr(internal, -6, 1) WHEN '+' THEN 1 WHEN '-' THEN -1 ELSE 0 END * (substr(internal, -5, 2)*60 + substr(internal, -2)),
	saved, size, body, prefix, sentcopy FROM message;
DROP TABLE message;
DROP TABLE body;
ALTER TABLE copy RENAME TO message;
ALTER TABLE content RENAME TO body;
CREATE UNIQUE INDEX body_file ON body (digest) WHERE text IS NULL;
CREATE INDEX message_body ON message (body);
CREATE INDEX message_sentcopy ON message (mailbox) WHERE sentcopy;
CREATE TABLE removed (
	id          INTEGER PRIMARY KEY,
	at          INTEGER NOT NULL, -- 0: not to be had again
	account     INTEGER NOT NULL,
	name        TEXT NOT NULL, -- of its mailbox then
	uidvalidity INTEGER NOT NULL,
	uid         INTEGER NOT NULL,
	flags       INTEGER NOT NULL,
	keywords    TEXT NOT NULL,
	internal    INTEGER NOT NULL,
	zone        INTEGER NOT NULL,
	size        INTEGER NOT NULL,
	body        INTEGER NOT NULL,
	prefix      BLOB NOT NULL
);
CREATE INDEX removed_body ON removed (body)`

// removedAt finds what is to be purged.
const removedAt = `CREATE INDEX removed_at ON removed (at)`

// inPacks says of bodies without text where in the packs they lie; NULL: in a
// file of their own.
const inPacks = `
ALTER TABLE body ADD COLUMN pack INTEGER;
ALTER TABLE body ADD COLUMN place INTEGER; -- from which byte on
CREATE UNIQUE INDEX body_place ON body (pack, place) WHERE pack IS NOT NULL`

// sharing is what is kept for those who do not own a mailbox. Own mailboxes
// that bear the name of a namespace make room for it.
const sharing = `
CREATE TABLE acl (mailbox INTEGER NOT NULL, identifier TEXT NOT NULL, rights TEXT NOT NULL, PRIMARY KEY (mailbox, identifier)) WITHOUT ROWID;
CREATE INDEX acl_identifier ON acl (identifier);
CREATE TABLE seen (
	mailbox INTEGER NOT NULL,
	account INTEGER NOT NULL, -- whose \Seen it is, not the owner's
	uid     INTEGER NOT NULL,
	modseq  INTEGER NOT NULL,
	seen    INTEGER NOT NULL,
	PRIMARY KEY (mailbox, account, uid)
) WITHOUT ROWID;
CREATE INDEX seen_modseq ON seen (mailbox, account, modseq);
UPDATE OR IGNORE mailbox SET name='My '||name WHERE name='Shared' OR name GLOB 'Shared/*' OR name='Other Users' OR name GLOB 'Other Users/*'`

// holds keeps accounts that move between stores from being changed. until is in
// seconds since 1970; 0: for good.
const holds = `
ALTER TABLE account ADD COLUMN hold TEXT NOT NULL DEFAULT '';
ALTER TABLE account ADD COLUMN until INTEGER NOT NULL DEFAULT 0`

// listings has what listing.go keeps of large mailboxes.
const listings = `CREATE TABLE listing (mailbox INTEGER PRIMARY KEY, modseq INTEGER NOT NULL, list BLOB NOT NULL)`
