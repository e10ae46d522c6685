package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"mailsrv/pkg/config"
	"mailsrv/pkg/store"
	"mailsrv/pkg/store/sqlstore"
)

// StoreAnswer is the answer to a command on the store; what the command does
// not speak of is empty.
type StoreAnswer struct {
	Tally   store.Tally            `json:"tally"`
	Faults  []store.Fault          `json:"faults,omitempty"`
	Removed []store.RemovedMessage `json:"removed,omitempty"`
	// Messages were undeleted, purged or restored.
	Messages int `json:"messages"`
}

// listed bounds the lists of an answer.
const listed = 10_000

// StoreSelection renders a selection for the control socket.
func StoreSelection(q store.Selection) url.Values {
	v := url.Values{}
	for key, value := range map[string]string{"account": q.Account, "mailbox": q.Mailbox, "message-id": q.MessageID} {
		if value != "" {
			v.Set(key, value)
		}
	}
	for key, t := range map[string]time.Time{"since": q.Since, "until": q.Until} {
		if !t.IsZero() {
			v.Set(key, t.Format(time.RFC3339))
		}
	}
	return v
}

func parseSelection(v url.Values) (q store.Selection, err error) {
	q = store.Selection{Account: v.Get("account"), Mailbox: v.Get("mailbox"), MessageID: v.Get("message-id")}
	for key, t := range map[string]*time.Time{"since": &q.Since, "until": &q.Until} {
		if s := v.Get(key); s != "" {
			if *t, err = time.Parse(time.RFC3339, s); err != nil {
				return q, errors.Join(errBadCommand, err)
			}
		}
	}
	return q, nil
}

// storeCommands are the commands of the store role's control socket.
func storeCommands(k store.Keeper) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /store/{command}", command(func(r *http.Request) (any, error) {
		return keep(r.Context(), k, r.PathValue("command"), r.URL.Query())
	}))
	return mux
}

// keep runs one command on a store.
func keep(ctx context.Context, k store.Keeper, name string, v url.Values) (a StoreAnswer, err error) {
	q, err := parseSelection(v)
	if err != nil {
		return a, err
	}
	report := func(f store.Fault) {
		if len(a.Faults) < listed {
			a.Faults = append(a.Faults, f)
		}
	}
	switch name {
	case "verify":
		a.Tally, err = k.Verify(ctx, report)
	case "reconstruct":
		a.Tally, err = k.Reconstruct(ctx, report)
	case "removed":
		err = k.Removed(ctx, q, func(m store.RemovedMessage) {
			if len(a.Removed) < listed {
				a.Removed = append(a.Removed, m)
			}
		})
	case "undelete":
		a.Messages, err = k.Undelete(ctx, q)
	case "purge":
		if q.Until.IsZero() {
			return a, fmt.Errorf("%w: purge needs until", errBadCommand)
		}
		a.Messages, err = k.Purge(ctx, q.Until)
	case "backup":
		a.Tally, err = k.Backup(ctx, v.Get("dir"))
	case "restore":
		a.Messages, err = k.Restore(ctx, v.Get("dir"), q)
	default:
		err = fmt.Errorf("%w: %q", errBadCommand, name)
	}
	return a, err
}

// StoreCommand runs a command on the store of a configuration that no process
// serves. A restore where there is no store makes it anew from the whole backup.
func StoreCommand(ctx context.Context, c config.Config, name string, v url.Values) (a StoreAnswer, err error) {
	dir := filepath.Join(c.Data, "store")
	if _, err := os.Stat(filepath.Join(dir, "store.db")); errors.Is(err, fs.ErrNotExist) {
		if name != "restore" {
			return a, fmt.Errorf("no store in %s", dir)
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return a, fmt.Errorf("restoring: %w", err)
		}
		if err := sqlstore.RestoreWhole(ctx, v.Get("dir"), dir); err != nil {
			return a, err
		}
		name = "verify"
	}
	engine, err := sqlstore.Open(ctx, sqlstore.Options{Dir: dir, InlineLimit: int64(c.Store.InlineLimit), PackLimit: int64(c.Store.PackLimit), Mailboxes: sqlstore.DefaultMailboxes(),
		Keep: time.Duration(c.Store.KeepRemoved)})
	if err != nil {
		return a, err
	}
	a, err = keep(ctx, engine, name, v)
	return a, errors.Join(err, engine.Close())
}
