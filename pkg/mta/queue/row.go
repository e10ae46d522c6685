package queue

import (
	"fmt"
	"strings"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/sqlite"
)

// State is what has become of a recipient. The numbers are on disk.
type State int

// The states.
const (
	Pending   State = iota
	Held            // by the administrator, or until a moderator has decided
	Delivered       // or replaced by what it expanded to
	Failed
)

// String returns the state's name in lower case.
func (s State) String() string {
	return [...]string{"pending", "held", "delivered", "failed"}[s]
}

// entryRow is a row of entries, with its recipients in env.To.
type entryRow struct {
	id      int64
	env     mail.Envelope
	arrived time.Time
	size    int64
	digest  []byte // nil: the message is in bodies
}

// recipientRow is a row of recipients.
type recipientRow struct {
	mail.Recipient
	entry       int64
	n           int
	destination string
	state       State
	attempts    int
	waited      time.Duration
	tried, next time.Time
	warned      bool
	status      string
}

// insert writes the entry and its recipients, due at once.
func (e *entryRow) insert(tx *sqlite.Tx, destination func(mail.Recipient) string) (int64, error) {
	env := e.env
	var digest any
	if e.digest != nil {
		digest = e.digest
	}
	id, _, err := tx.Exec(`INSERT INTO entries (trace, local, domain, utf8, eightbit, ret, envid, arrived, size, digest, proof, binary, require_tls)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, string(env.Trace), env.From.Local, env.From.Domain, env.SMTPUTF8, env.EightBit,
		env.Ret, env.EnvID, e.arrived.UnixMilli(), e.size, digest, env.Proof, env.Binary, env.RequireTLS)
	if err != nil {
		return 0, fmt.Errorf("inserting entry: %w", err)
	}
	for n, r := range env.To {
		state := Pending
		if r.Moderation == mail.Awaiting {
			state = Held
		}
		_, _, err := tx.Exec(`INSERT INTO recipients (entry, n, local, domain, mailbox, flags, sent_copy, notify, orcpt, destination, state, next, action, moderation)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, id, n, r.Address.Local, r.Address.Domain, r.Mailbox, strings.Join(r.Flags, " "),
			r.SentCopy, r.Notify, r.ORCPT, destination(r), state, e.arrived.UnixMilli(), r.Action, r.Moderation)
		if err != nil {
			return 0, fmt.Errorf("inserting recipient: %w", err)
		}
	}
	return id, nil
}

// insertWith is insert with the message.
func (e *entryRow) insertWith(tx *sqlite.Tx, destination func(mail.Recipient) string, k kept) (int64, error) {
	id, err := e.insert(tx, destination)
	if err == nil && k.digest == nil {
		_, _, err = tx.Exec("INSERT INTO bodies (entry, body) VALUES (?, ?)", id, k.text)
	}
	return id, err
}

const entryColumns = "id, trace, local, domain, utf8, eightbit, ret, envid, arrived, size, digest, proof, binary, require_tls"

func scanEntry(scan func(...any) error) (entryRow, error) {
	var e entryRow
	var trace string
	var arrived int64
	err := scan(&e.id, &trace, &e.env.From.Local, &e.env.From.Domain, &e.env.SMTPUTF8, &e.env.EightBit,
		&e.env.Ret, &e.env.EnvID, &arrived, &e.size, &e.digest, &e.env.Proof, &e.env.Binary, &e.env.RequireTLS)
	e.env.Trace, e.arrived = mail.TraceID(trace), time.UnixMilli(arrived)
	return e, err
}

const recipientColumns = "entry, n, local, domain, mailbox, flags, sent_copy, notify, orcpt, destination, state, attempts, waited, tried, next, warned, status, action, moderation"

func scanRecipient(scan func(...any) error) (recipientRow, error) {
	var r recipientRow
	var flags string
	var waited, tried, next int64
	err := scan(&r.entry, &r.n, &r.Address.Local, &r.Address.Domain, &r.Mailbox, &flags, &r.SentCopy, &r.Notify, &r.ORCPT,
		&r.destination, &r.state, &r.attempts, &waited, &tried, &next, &r.warned, &r.status, &r.Action, &r.Moderation)
	if flags != "" {
		r.Flags = strings.Fields(flags)
	}
	r.waited, r.next = time.Duration(waited)*time.Millisecond, time.UnixMilli(next)
	if tried != 0 {
		r.tried = time.UnixMilli(tried)
	}
	return r, err
}

// find reads the entry; false if it is gone.
func find(tx *sqlite.Tx, id int64) (e entryRow, found bool, err error) {
	err = tx.Query("SELECT "+entryColumns+" FROM entries WHERE id=?", []any{id}, func(scan func(...any) error) error {
		e, err = scanEntry(scan)
		found = true
		return err
	})
	return e, found, err
}

// recipientsOf reads all recipients of an entry, in order.
func recipientsOf(tx *sqlite.Tx, id int64) ([]recipientRow, error) {
	var rows []recipientRow
	err := tx.Query("SELECT "+recipientColumns+" FROM recipients WHERE entry=? ORDER BY n", []any{id}, func(scan func(...any) error) error {
		r, err := scanRecipient(scan)
		rows = append(rows, r)
		return err
	})
	return rows, err
}
