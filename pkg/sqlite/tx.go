package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"runtime/debug"
)

// Tx is the connection inside a Write or a Read, good until its function
// returns, for that function's goroutine only.
type Tx struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

func newTx(ctx context.Context, pool *sql.DB) (*Tx, error) {
	c, err := pool.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &Tx{conn: c, stmts: map[string]*sql.Stmt{}}, nil
}

// stmt returns the prepared statement of that text; each is prepared once a
// connection, so texts must not be composed from values.
func (t *Tx) stmt(query string) (*sql.Stmt, error) {
	if s := t.stmts[query]; s != nil {
		return s, nil
	}
	s, err := t.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, fmt.Errorf("preparing %q: %w", query, err)
	}
	t.stmts[query] = s
	return s, nil
}

// Exec runs a statement that returns no rows.
func (t *Tx) Exec(query string, args ...any) (lastID, affected int64, err error) {
	s, err := t.stmt(query)
	if err != nil {
		return 0, 0, err
	}
	r, err := s.Exec(args...)
	if err != nil {
		return 0, 0, err
	}
	lastID, _ = r.LastInsertId()
	affected, _ = r.RowsAffected()
	return lastID, affected, nil
}

// Query runs fn for each row, which scan reads into its arguments (a
// *sql.RawBytes is good until fn returns), until fn's first error.
func (t *Tx) Query(query string, args []any, fn func(scan func(...any) error) error) error {
	s, err := t.stmt(query)
	if err != nil {
		return err
	}
	rows, err := s.Query(args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Get reads the first row into dest and reports whether there was one.
func (t *Tx) Get(query string, args []any, dest ...any) (bool, error) {
	found := false
	err := t.Query(query, args, func(scan func(...any) error) error {
		if found {
			return nil
		}
		found = true
		return scan(dest...)
	})
	return found, err
}

func (t *Tx) close() {
	for _, s := range t.stmts {
		s.Close()
	}
	t.conn.Close()
}

// guard turns a panic of fn into its error: the writer serves everybody and
// must outlive one caller's fault.
func guard(tx *Tx, fn func(*Tx) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a transaction: %v\n%s", p, debug.Stack())
		}
	}()
	return fn(tx)
}
